-- What only PostgreSQL has, after ../0001_books.sql: room in the pages of rows that are updated all
-- the time, so that a new version of a row stays in its page and no index is touched; vacuum by
-- count for tables that only grow, so that they stay visible-mapped and frozen without a storm;
-- byte order for text that is a key.

alter table members set (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
alter table positions set (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 1000);
alter table window_totals set (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 1000);
alter table lots set (autovacuum_vacuum_scale_factor = 0.05);
alter table requests set (autovacuum_vacuum_insert_scale_factor = 0.05);
alter table checks set (autovacuum_vacuum_insert_scale_factor = 0.05);
alter table transactions set (autovacuum_vacuum_insert_scale_factor = 0.05);

alter table checks alter column check_id type text collate "C";
alter table window_totals alter column unit type text collate "C";
alter table positions alter column currency type text collate "C";
alter table face_values alter column currency type text collate "C";
alter table partners alter column code type text collate "C";
alter table settlement_positions alter column currency type text collate "C";
alter table settlement_obligations alter column currency type text collate "C";
alter table settlement_currencies alter column currency type text collate "C";
