"""`infer --ray`: a run over many machines.

    listing  store     what there is to score, listed once into a file; films behind pyarrow's file systems
    output             the folder of records: parts, their journal, what of them is still to do
    worker   table     what one process of the cluster does: a part of the listing becomes a part of the records
    ray                the cluster: joined or begun, and parts passed through Ray Data
    run                a run from its listing to its whole folder

Only `ray` knows Ray, only `store` and `table` pyarrow.
"""
