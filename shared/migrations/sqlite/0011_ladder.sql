-- Asks of kinds that the program alone knows, and how far an escalation has come: what holds it up, how
-- many rungs were told, when the last one was, and the last one that nothing reached.
create table ask_new (
  run    text not null,
  name   text not null,
  id     text not null unique,
  tenant text not null,
  task   text not null,
  kind   text not null,
  body   text not null check (json_valid(body)),
  at     integer not null,
  told   text not null default 'nothing' check (told in ('nothing', 'asked', 'closed')),
  cause  text,
  rungs  integer not null default 0,
  rung_at integer not null default 0,
  missed integer not null default 0,
  primary key (run, name)
) strict;
insert into ask_new (run, name, id, tenant, task, kind, body, at, told)
  select run, name, id, tenant, task, kind, body, at, told from ask;
drop table ask;
alter table ask_new rename to ask;
create index ask_task on ask (task);
create index ask_kind on ask (tenant, at);
create index ask_untold on ask (tenant, at) where told <> 'closed';
create index ask_cause on ask (tenant, cause) where told <> 'closed' and cause is not null;
create index ask_rungs on ask (tenant, rung_at) where told = 'asked' and rungs > 0;
