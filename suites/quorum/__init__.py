"""What corosync, its links and its quorum device must withstand, and what must stop when they do not."""
