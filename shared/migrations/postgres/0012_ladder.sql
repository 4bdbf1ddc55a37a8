-- Asks of kinds that the program alone knows, and how far an escalation has come: what holds it up, how
-- many rungs were told, when the last one was, and the last one that nothing reached.
alter table ask drop constraint ask_kind_check;
alter table ask add column cause text;
alter table ask add column rungs integer not null default 0;
alter table ask add column rung_at bigint not null default 0;
alter table ask add column missed integer not null default 0;
create index ask_cause on ask (tenant, cause) where told <> 'closed' and cause is not null;
create index ask_rungs on ask (tenant, rung_at) where told = 'asked' and rungs > 0;
