-- What an operator has stopped: everything, or an agent. A run that a row covers is not claimed.
create table halt (
  tenant text not null,
  what   text not null check (what in ('all', 'agent')),
  name   text not null,
  reason text not null,
  by     text not null,
  at     integer not null,
  primary key (tenant, what, name),
  check ((what = 'all') = (name = ''))
) strict, without rowid;
