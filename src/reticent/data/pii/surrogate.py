SURROGATES = surrogate = None
