"""Secrets from elsewhere: one module for each kind of file, and one for each kind of authenticator made of them."""
