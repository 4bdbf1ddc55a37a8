-- What looking after an installation needs: where a task comes from, what was pruned, and who does
-- what only one may do at a time.

-- `origin` is the task that this one was made from: by a retry where `origin_step` is null, else by a
-- fork before that step.
alter table task add column origin text;
alter table task add column origin_step text;
alter table task add column pruned_at integer;
alter table run add column pruned_at integer;

create index task_to_prune on task (updated_at)
  where state in ('done', 'failed', 'cancelled') and pruned_at is null;
create index run_dead on run (updated_at) where state = 'dead';
create index step_artefact on step (tenant, artefact) where artefact is not null;

-- Duties that one worker has at a time. The epoch is the fence of what is done under it.
create table duty_lease (
  name   text primary key,
  holder text not null,
  epoch  integer not null
) strict, without rowid;
