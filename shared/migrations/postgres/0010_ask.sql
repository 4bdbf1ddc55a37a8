-- What people are asked. The row comes with the step that waits for the answer, the answer is its run's
-- signal; where an ask stands follows from those. `told` is what the cards that were owed for it show.
create table ask (
  run    uuid not null,
  name   text not null,
  id     uuid not null unique,
  tenant text not null,
  task   uuid not null,
  kind   text not null check (kind in ('approval', 'question', 'doubt', 'trouble')),
  body   json not null,
  at     bigint not null,
  told   text not null default 'nothing' check (told in ('nothing', 'asked', 'closed')),
  primary key (run, name)
);
create index ask_task on ask (task);
create index ask_kind on ask (tenant, at);
create index ask_untold on ask (tenant, at) where told <> 'closed';

-- A card that shows an ask.
alter table outbox add column ask uuid;
create index outbox_ask on outbox (ask) where ask is not null;
create index outbox_asked on outbox (tenant, channel, conversation) where ask is not null;

-- Only the engine works on it; requests of a tenant come to it by the tenant's name in every query.
grant select, insert, update, delete on ask to majordomo_engine;
alter table ask enable row level security;
alter table ask force row level security;
create policy engine on ask to majordomo_engine using (true) with check (true);
