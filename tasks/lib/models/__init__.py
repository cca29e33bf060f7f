"""Models on disk: models/NAME/VERSION, whole and verified, or not there at all.

`obtain` brings one in, from a URL (`http_file`), a folder (`local_copy`), an archive (`tar_archive`,
`zip_archive`) or a Keras file, and `publish` renames it into place. Next to a version lie its sample requests
(`samples`) and its optimized artefact (`artefact`). A new archive format belongs here.
May import: common, client, embedded.
"""
