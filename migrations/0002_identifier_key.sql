-- Which key the identifiers of members are hashed with, so that a process with another one notices
-- before it looks for members and finds none. The key itself is in no database.

alter table network add column identifier_key bytea; -- fingerprint, 32 bytes; null: no process has come with a key yet
