-- What people added to limits by their word on an ask, each once. It counts while its day or month lasts
-- (`time`: days since 1970, months since the year 0, 0 for all time), and until somebody sets the limit anew.
-- A task's own limit stands in its row: here is who raised it.
create table extra (
  tenant   text not null,
  ask      uuid not null,
  scope    text not null check (scope in ('all', 'user', 'agent', 'task')),
  subject  text not null,
  period   text not null check (period in ('day', 'month', 'total')),
  unit     text not null check (unit in ('usd', 'tokens')),
  time     bigint not null,
  amount   bigint not null check (amount > 0),
  by       text not null,
  at       bigint not null,
  replaced boolean not null default false,
  primary key (tenant, ask, unit),
  check ((scope = 'all') = (subject = ''))
);
create index extra_limit on extra (tenant, scope, subject, period, unit, time) where not replaced;

grant select, insert, update, delete on extra to majordomo_engine;
grant select on extra to majordomo_app;
alter table extra enable row level security;
alter table extra force row level security;
create policy engine on extra to majordomo_engine using (true) with check (true);
create policy app on extra to majordomo_app
  using (tenant = current_setting('majordomo.tenant', true))
  with check (tenant = current_setting('majordomo.tenant', true));
