"""Other systems for second factors, under the same requests on the same PostgreSQL. Installed on demand into folders of
their own, and never measured by `make bench`: see README.md.
"""
