-- A batch that is decided before it holds the window is written and committed by one statement, which
-- brings what the batch took to hold. By these two it holds the window, and refuses itself.

-- Holds the open window with others up to the end of the transaction; for how many microseconds that had to
-- wait. Refuses where the window, the rulebook's edition or the clock is another one by then. Volatile: so
-- it reads what is committed as it reads, whatever the statement that calls it sees.
create function hold_window(lock_key bigint, id_told uuid, version_told bigint, clock_told bigint)
returns bigint language plpgsql volatile as $$
declare
  asked timestamptz := clock_timestamp();
  held timestamptz;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise invalid_transaction_state using message = 'what is committed later would not be seen';
  end if;
  perform pg_advisory_xact_lock_shared(lock_key);
  held := clock_timestamp();
  perform from network join windows on state = 1
  where windows.id = id_told and rulebook_version = version_told and clock_us is not distinct from clock_told;
  if not found then
    raise serialization_failure using message = 'the window, the rulebook or the clock has moved on';
  end if;
  return (extract(epoch from held - asked) * 1000000)::bigint;
end
$$;

-- Refuses a batch of which something was not written: a row was not there, or was not as it had been.
create function refuse_batch() returns bigint language plpgsql volatile as $$
begin
  raise serialization_failure using message = 'another writer was first';
end
$$;
