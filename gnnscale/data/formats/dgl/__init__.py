"""What DGL leaves on disk: ``save_graphs`` files, ``CSVDataset`` and ``OnDiskDataset`` folders."""
