"""What every room needs and no domain owns: files, devices, tokenizers, the terminal."""
