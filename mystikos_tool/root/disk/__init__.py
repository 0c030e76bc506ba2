"""A root on an ext2 disk: written from a tree, brought up to date, hashed and read again."""
