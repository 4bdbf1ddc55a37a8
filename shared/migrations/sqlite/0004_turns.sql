-- People whose runs wait take turns: found one after the other, and each one's in order.
create index run_party on run ((tenant || '/' || principal), priority desc, (parent is null), id)
  where state = 'queued' and held = 0;
drop index run_queue;
create index run_suspect on run (owner) where state = 'running' and deaths >= 2;
