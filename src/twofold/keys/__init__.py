"""Where data keys come from: the keyring, and one file per key provider."""
