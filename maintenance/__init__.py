"""What keeps this repository in order: tables made of metafiles, sweeps; not in the wheel."""
