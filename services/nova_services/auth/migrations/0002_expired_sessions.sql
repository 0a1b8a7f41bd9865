-- nova: no-transaction
-- Which sessions are over, without a look at all of them.
CREATE INDEX CONCURRENTLY IF NOT EXISTS sessions_by_end ON sessions (expires_at);
