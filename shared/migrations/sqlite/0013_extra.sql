-- What people added to limits by their word on an ask, each once. It counts while its day or month lasts
-- (`time`: days since 1970, months since the year 0, 0 for all time), and until somebody sets the limit anew.
-- A task's own limit stands in its row: here is who raised it.
create table extra (
  tenant   text not null,
  ask      text not null,
  scope    text not null check (scope in ('all', 'user', 'agent', 'task')),
  subject  text not null,
  period   text not null check (period in ('day', 'month', 'total')),
  unit     text not null check (unit in ('usd', 'tokens')),
  time     integer not null,
  amount   integer not null check (amount > 0),
  by       text not null,
  at       integer not null,
  replaced integer not null default 0 check (replaced in (0, 1)),
  primary key (tenant, ask, unit),
  check ((scope = 'all') = (subject = ''))
) strict, without rowid;
create index extra_limit on extra (tenant, scope, subject, period, unit, time) where replaced = 0;
