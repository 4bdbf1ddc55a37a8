-- The worker under which a run was last left behind: where its process turns out to live, nothing died.
-- `died_at` is not read any more.
alter table run add column died_with uuid;
create index run_died_with on run (died_with) where died_with is not null;
