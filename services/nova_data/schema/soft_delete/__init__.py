"""Soft delete, the same way for every table: a row that is deleted stays, says when and by whom, and is out of sight.

    facts     what a table looks like now, read from PostgreSQL's catalogs
    objects   what soft delete consists of, as SQL
    plan      from the one to the other, in steps that let traffic pass; and the way back
    manage    brings it about on a database, and takes it back
    erasure   real removal of a person's rows, with a record that says nothing of the person
    audit     who deleted what, and when

Of a table named posts, soft delete consists of:

    deleted_at, deleted_by       both null or both set, by a CHECK
    posts_deleted, posts_active  partial indexes, of the rows that are deleted and of those that are not
    active_posts                 a view of those that are not, as its callers may see them
    a trigger before DELETE      makes a deletion of it, or refuses; before TRUNCATE it refuses
    a trigger after UPDATE       writes an event into the outbox when a row is deleted or restored
    foreign keys                 RESTRICT in place of CASCADE: a deletion must not be carried on behind everybody's back
"""
