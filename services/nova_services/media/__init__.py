"""media: pictures and films that people upload, their metadata in PostgreSQL and their content in a folder or in S3.

    kinds       what a file is, by its first bytes: policy alone
    uploading   a body that is looked at while it passes
    shelf       where the content lies: a folder, or a bucket of S3
    records     what is in PostgreSQL
    sweeping    content that nobody refers to goes, some time later
    leaving     what somebody who is erased leaves behind
    forms, api  what goes in and out over HTTP
    service     the HTTP side
    metrics     what was uploaded and read
    process     puts these together
    migrations/ for `nova-data migrate`, before `nova-data soft-delete install --table media`

The content is written before the row and removed after it. So a row always has its content, and what is interrupted
leaves content without a row, which the sweep removes.

docs/backend.md is for users.
"""
