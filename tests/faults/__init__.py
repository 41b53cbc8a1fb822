"""What must hold when processes are killed, disks are full, bytes are damaged and runs meet: real faults throughout."""
