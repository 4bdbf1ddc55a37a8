-- What people are asked. The row comes with the step that waits for the answer, the answer is its run's
-- signal; where an ask stands follows from those. `told` is what the cards that were owed for it show.
create table ask (
  run    text not null,
  name   text not null,
  id     text not null unique,
  tenant text not null,
  task   text not null,
  kind   text not null check (kind in ('approval', 'question', 'doubt', 'trouble')),
  body   text not null check (json_valid(body)),
  at     integer not null,
  told   text not null default 'nothing' check (told in ('nothing', 'asked', 'closed')),
  primary key (run, name)
) strict;
create index ask_task on ask (task);
create index ask_kind on ask (tenant, at);
create index ask_untold on ask (tenant, at) where told <> 'closed';

-- A card that shows an ask.
alter table outbox add column ask text;
create index outbox_ask on outbox (ask) where ask is not null;
create index outbox_asked on outbox (tenant, channel, conversation) where ask is not null;
