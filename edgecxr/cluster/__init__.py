"""`infer --ray`: a run over many machines.

    listing  store     what there is to score, listed once into a file; films behind pyarrow's file systems
    output             the folder of records: parts, their journal, what of them is still to do
    worker             what one process of the cluster does: a part of the listing becomes a part of the records
    pool               Ray: a cluster joined or begun, and parts passed through Ray Data
    run                a run from its listing to its whole folder

Only `pool` knows Ray, and only `store` the file systems of pyarrow.
"""
