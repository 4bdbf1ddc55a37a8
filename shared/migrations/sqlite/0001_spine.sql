-- The journal and what stands around it. Times are milliseconds since 1970 by the store's clock.
-- Every table carries its tenant; states are held by CHECK constraints here as by enums in the code.
-- Tables with long rows keep their rowid: a row of a table without one spills into pages of its own
-- from a quarter of a page on, and every such page is written at every commit.

-- One start of one process. An id is never used again.
create table worker (
  id         text primary key,
  state      text not null check (state in ('live', 'gone')),
  started_at integer not null
) strict, without rowid;

-- What a person asked for, and what has become of it.
create table task (
  id            text primary key,
  tenant        text not null,
  principal     text not null,
  submitted_by  text not null,
  agent         text,
  thread        text,
  request       text not null check (json_valid(request)),
  state         text not null check (state in ('queued', 'running', 'awaiting_human', 'paused', 'done', 'failed', 'cancelled')),
  phase         text check (phase in ('routing', 'planning', 'executing', 'validating')),
  answer        text,
  partial       text,
  error         text,
  tokens_in     integer not null default 0,
  tokens_cached integer not null default 0,
  tokens_out    integer not null default 0,
  usd_nano      integer not null default 0,
  created_at    integer not null,
  updated_at    integer not null,
  check ((state = 'done') = (answer is not null)),
  check (state <> 'failed' or error is not null)
) strict;
create index task_principal on task (tenant, principal, id);
create index task_unfinished on task (state) where state not in ('done', 'failed', 'cancelled');

-- Messages that were taken in, by the sender's own key: the same key is the same task.
create table inbox (
  tenant    text not null,
  sender    text not null,
  key       text not null,
  body_hash text not null,
  task      text not null,
  at        integer not null,
  primary key (tenant, sender, key)
) strict, without rowid;

-- The durable execution of a task or of one agent's part of it. This row is the queue.
create table run (
  id         text primary key,
  task       text not null,
  parent     text,
  parent_key text,
  tenant     text not null,
  principal  text not null,
  kind       text not null,
  agent      text,
  input      text not null check (json_valid(input)),
  catalog    text not null,
  authority  text not null check (json_valid(authority)),
  state      text not null check (state in ('queued', 'running', 'waiting', 'done', 'failed', 'cancelled', 'dead')),
  owner      text,
  epoch      integer not null default 0,
  wakes      integer not null default 0,
  deaths     integer not null default 0,
  died_at    integer not null default 0,
  wake_at    integer,
  priority   integer not null default 0,
  taint      integer not null default 0,
  created_at integer not null,
  updated_at integer not null,
  check ((state = 'running') = (owner is not null)),
  check ((parent is null) = (parent_key is null))
) strict;
create index run_queue on run (priority desc, id) where state = 'queued';
create index run_wake on run (wake_at) where state = 'waiting' and wake_at is not null;
create index run_owner on run (owner) where state = 'running';
create index run_task on run (task);

-- The journal: begun -> done, and nothing else.
create table step (
  run         text not null,
  key         text not null,
  tenant      text not null,
  seq         integer not null,
  state       text not null check (state in ('begun', 'done')),
  kind        text not null check (kind in ('think', 'tool', 'child', 'signal', 'sleep', 'now')),
  agent       text,
  what        text not null,
  effect      text not null check (effect in ('pure', 'idempotent', 'verifiable', 'once')),
  op_hash     text not null,
  attempt     integer not null,
  attempts    text not null check (json_valid(attempts)),
  reserved    text check (json_valid(reserved)),
  deadline    integer,
  recorded    text check (json_valid(recorded)),
  artefact    text,
  taint       integer not null default 0,
  begun_at    integer not null,
  done_at     integer,
  primary key (run, key),
  check ((state = 'done') = (done_at is not null)),
  check ((state = 'done') = (recorded is not null or artefact is not null))
) strict;

-- What came from outside for a waiting run: the first answer wins.
create table signal (
  run     text not null,
  name    text not null,
  tenant  text not null,
  payload text not null check (json_valid(payload)),
  by      text not null,
  at      integer not null,
  primary key (run, name)
) strict, without rowid;

-- What happened, numbered within its task; written in the same commit as what it tells of.
create table event (
  task   text not null,
  seq    integer not null,
  tenant text not null,
  run    text not null,
  at     integer not null,
  body   text not null check (json_valid(body)),
  primary key (task, seq)
) strict;

-- Bodies by their SHA-256: the catalogs that runs work by, and results too long for their row.
create table content (
  tenant text not null,
  hash   text not null,
  body   text not null,
  primary key (tenant, hash)
) strict;

-- API tokens: the hash only.
create table token (
  id         text primary key,
  tenant     text not null,
  hash       text not null unique,
  name       text not null,
  principal  text not null,
  scopes     text not null check (json_valid(scopes)),
  created_at integer not null,
  revoked_at integer
) strict, without rowid;
create unique index token_name on token (tenant, name) where revoked_at is null;
