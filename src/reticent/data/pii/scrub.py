Scrubber = originals = None
