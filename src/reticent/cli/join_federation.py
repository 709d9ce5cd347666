# SPDX-License-Identifier: Apache-2.0
"""`reticent join-federation`: a client of a federation, on the machine where its texts lie."""

from __future__ import annotations

from reticent.workflows.inputs import DataConfig
from reticent.workflows.join_federation import ClientPlace


def command(data: str, *, client: ClientPlace, data_config: DataConfig) -> int:
    """Take part in a federation with the texts on this machine, which stay here; updates made of them are sent.

    Args:
        data: the records of this one client, as for reticent tune.
    """
    from reticent.workflows.inputs import read_data, tell_rejects
    from reticent.workflows.join_federation import join_federation

    read = read_data(data, data_config, model=client.model)
    tell_rejects(read.rejects)
    join_federation(read.records, client)
    return 0
