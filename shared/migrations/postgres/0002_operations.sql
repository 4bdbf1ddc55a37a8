-- What looking after an installation needs: where a task comes from, what was pruned, and who does
-- what only one may do at a time.

-- `origin` is the task that this one was made from: by a retry where `origin_step` is null, else by a
-- fork before that step.
alter table task add column origin uuid;
alter table task add column origin_step text;
alter table task add column pruned_at bigint;
alter table run add column pruned_at bigint;

create index task_to_prune on task (updated_at)
  where state in ('done', 'failed', 'cancelled') and pruned_at is null;
create index run_dead on run (updated_at) where state = 'dead';
create index step_artefact on step (tenant, artefact) where artefact is not null;

-- Duties that one worker has at a time. The epoch is the fence of what is done under it.
create table duty_lease (
  name   text primary key,
  holder uuid not null,
  epoch  bigint not null
);
grant select, insert, update on duty_lease to majordomo_engine;
alter table duty_lease enable row level security;
alter table duty_lease force row level security;
create policy engine on duty_lease to majordomo_engine using (true) with check (true);
