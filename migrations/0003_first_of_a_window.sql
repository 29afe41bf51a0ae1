-- Where the ids of a window begin, so that its postings are read from there. (Where they end,
-- last_transaction_id says.) Written by whoever is the first in a window, and by a process whose clock
-- is behind the first one's.

alter table windows add column first_transaction_id uuid; -- the least id in it, declined ones included; null: none

update windows set first_transaction_id = (
    select transactions.id from transactions where transactions.window_id = windows.id
    order by transactions.id limit 1
);
