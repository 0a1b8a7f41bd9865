-- nova: no-transaction
-- Which notifications are too old, without a look at all of them.
CREATE INDEX CONCURRENTLY IF NOT EXISTS notifications_by_age ON notifications (created_at);
CREATE INDEX CONCURRENTLY IF NOT EXISTS notifications_by_reading ON notifications (read_at) WHERE read_at IS NOT NULL;
