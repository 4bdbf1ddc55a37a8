-- Standing words of approvers on calls of one kind. A use is written, and counted, in the commit that
-- answers its ask.
create table permit (
  tenant     text not null,
  id         text not null unique,
  agent      text not null,
  tool       text not null,
  covered    text not null check (json_valid(covered)),
  tainted    integer not null check (tainted in (0, 1)),
  times      integer check (times > 0),
  used       integer not null default 0,
  ends_at    integer,
  by         text not null,
  at         integer not null,
  asked      text,
  revoked_by text,
  revoked_at integer,
  primary key (tenant, id),
  check (used <= times),
  check (times is not null or ends_at is not null),
  check ((revoked_by is null) = (revoked_at is null))
) strict, without rowid;
create index permit_call on permit (tenant, agent, tool) where revoked_at is null;

create table permit_use (
  ask    text primary key,
  permit text not null,
  tenant text not null,
  task   text not null,
  at     integer not null
) strict, without rowid;
create index permit_use_permit on permit_use (permit, at);
create index permit_use_task on permit_use (task);

-- What people thought of answers: what they said, of each the last word, and what their doings say without
-- words. It stays with its task.
create table feedback (
  task   text not null,
  who    text not null,
  source text not null check (source in ('said', 'edited', 'lapsed', 'cancelled', 'rephrased')),
  tenant text not null,
  good   integer not null check (good in (0, 1)),
  text   text not null,
  at     integer not null,
  primary key (task, who, source),
  check (source = 'said' or good = 0)
) strict, without rowid;
create index feedback_at on feedback (tenant, at);
