-- What an operator has stopped: everything, or an agent. A run that a row covers is not claimed.
create table halt (
  tenant text not null,
  what   text not null check (what in ('all', 'agent')),
  name   text not null,
  reason text not null,
  by     text not null,
  at     bigint not null,
  primary key (tenant, what, name),
  check ((what = 'all') = (name = ''))
);

-- Only the engine works on it; requests of a tenant come to it by the tenant's name in every query.
grant select, insert, update, delete on halt to majordomo_engine;
alter table halt enable row level security;
alter table halt force row level security;
create policy engine on halt to majordomo_engine using (true) with check (true);
