-- Standing words of approvers on calls of one kind. A use is written, and counted, in the commit that
-- answers its ask; a permit is locked after tasks and runs.
create table permit (
  tenant     text not null,
  id         uuid not null unique,
  agent      text not null,
  tool       text not null,
  covered    json not null,
  tainted    boolean not null,
  times      bigint check (times > 0),
  used       bigint not null default 0,
  ends_at    bigint,
  by         text not null,
  at         bigint not null,
  asked      uuid,
  revoked_by text,
  revoked_at bigint,
  primary key (tenant, id),
  check (used <= times),
  check (times is not null or ends_at is not null),
  check ((revoked_by is null) = (revoked_at is null))
);
create index permit_call on permit (tenant, agent, tool) where revoked_at is null;

create table permit_use (
  ask    uuid primary key,
  permit uuid not null,
  tenant text not null,
  task   uuid not null,
  at     bigint not null
);
create index permit_use_permit on permit_use (permit, at);
create index permit_use_task on permit_use (task);

-- Only the engine works on them; requests of a tenant come to it by the tenant's name in every query.
grant select, insert, update, delete on permit, permit_use to majordomo_engine;
alter table permit enable row level security;
alter table permit force row level security;
create policy engine on permit to majordomo_engine using (true) with check (true);
alter table permit_use enable row level security;
alter table permit_use force row level security;
create policy engine on permit_use to majordomo_engine using (true) with check (true);

-- What people thought of answers: what they said, of each the last word, and what their doings say without
-- words. It stays with its task.
create table feedback (
  task   uuid not null,
  who    text not null,
  source text not null check (source in ('said', 'edited', 'lapsed', 'cancelled', 'rephrased')),
  tenant text not null,
  good   boolean not null,
  text   text not null,
  at     bigint not null,
  primary key (task, who, source),
  check (source = 'said' or not good)
);
create index feedback_at on feedback (tenant, at);

grant select, insert, update, delete on feedback to majordomo_engine;
alter table feedback enable row level security;
alter table feedback force row level security;
create policy engine on feedback to majordomo_engine using (true) with check (true);
