-- What comes in from channels and what goes out to them.

-- Messages of channels as they came, by the channel's own key: the same one twice is one row. `seq` is
-- the order in which they came.
create table inbound (
  seq          integer primary key autoincrement,
  tenant       text not null,
  channel      text not null,
  key          text not null,
  conversation text not null,
  body         text not null check (json_valid(body)),
  state        text not null check (state in ('new', 'held', 'wanted', 'done')),
  at           integer not null
) strict;
create unique index inbound_key on inbound (tenant, channel, key);
create index inbound_open on inbound (tenant, channel, seq) where state in ('new', 'wanted');
create index inbound_done on inbound (at) where state = 'done';

-- How far a channel was read, for channels that are asked for what is new.
create table cursor (
  tenant   text not null,
  account  text not null,
  position integer not null,
  primary key (tenant, account)
) strict, without rowid;

-- What the far side is owed. `far` holds the far side's ids of the messages that stand for it there, so
-- that sending it again means changing those.
create table outbox (
  seq          integer primary key autoincrement,
  tenant       text not null,
  channel      text not null,
  key          text not null,
  conversation text not null,
  kind         text not null check (kind in ('card', 'say')),
  task         text,
  body         text not null check (json_valid(body)),
  far          text not null default '[]' check (json_valid(far)),
  state        text not null check (state in ('owed', 'sent', 'dead')),
  attempts     integer not null default 0,
  not_before   integer not null default 0,
  error        text,
  created_at   integer not null,
  updated_at   integer not null,
  check ((kind = 'card') = (task is not null)),
  check (state <> 'dead' or error is not null)
) strict;
create unique index outbox_key on outbox (tenant, channel, key);
create index outbox_owed on outbox (tenant, channel, seq) where state = 'owed';
create index outbox_task on outbox (task) where task is not null;

-- What is settled about a conversation: who speaks in it, and since when its turns count.
create table conversation (
  tenant     text not null,
  channel    text not null,
  id         text not null,
  agent      text,
  since      integer not null default 0,
  updated_at integer not null,
  primary key (tenant, channel, id)
) strict, without rowid;
create index task_thread on task (tenant, thread, id) where thread is not null;
