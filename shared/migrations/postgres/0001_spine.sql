-- The journal and what stands around it, in the schema `majordomo`. Run by `majordomo_owner`. Times
-- are milliseconds since 1970 by this server's clock. States are held by CHECK constraints here as by
-- enums in the code.
--
-- Every row of a tenant says whose it is, and row level security is forced on every table, so that
-- not even the owner reads around it: `majordomo_engine` works on runs of all tenants,
-- `majordomo_app` sees the tenant that its transaction named and nothing else.
--
-- Locks are taken in one order: task, then run, then everything else. Whoever writes to a task's runs
-- holds its row first; claims and the reaper skip what is locked and wait for nobody.

-- The only clock: that of the server, not of the transaction's beginning, which may be long past
-- where it waited for a lock.
create function now_ms() returns bigint language sql volatile parallel safe
  return (extract(epoch from clock_timestamp()) * 1000)::bigint;

-- One start of one process. An id is never used again, and one that is gone never lives again.
create table worker (
  id         uuid primary key,
  state      text not null check (state in ('live', 'gone')),
  started_at bigint not null,
  beat_at    bigint not null,
  expires_at bigint not null
);
create index worker_live on worker (expires_at) where state = 'live';

-- What a person asked for, and what has become of it. `events` numbers its events without gaps.
create table task (
  id            uuid primary key,
  tenant        text not null,
  principal     text not null,
  submitted_by  text not null,
  agent         text,
  thread        text,
  metadata      jsonb not null,
  request       json not null,
  state         text not null check (state in ('queued', 'running', 'awaiting_human', 'paused', 'done', 'failed', 'cancelled')),
  phase         text check (phase in ('routing', 'planning', 'executing', 'validating')),
  answer        text,
  partial       text,
  error         text,
  tokens_in     bigint not null default 0,
  tokens_cached bigint not null default 0,
  tokens_out    bigint not null default 0,
  usd_nano      bigint not null default 0,
  events        bigint not null default 0,
  created_at    bigint not null,
  updated_at    bigint not null,
  check ((state = 'done') = (answer is not null)),
  check (state <> 'failed' or error is not null)
) with (fillfactor = 80);
create index task_of_tenant on task (tenant, id);
create index task_principal on task (tenant, principal, id);
create index task_unfinished on task (state) where state not in ('done', 'failed', 'cancelled');

-- Messages that were taken in, by the sender's own key: the same key is the same task.
create table inbox (
  tenant    text not null,
  sender    text not null,
  key       text not null,
  body_hash text not null,
  task      uuid not null,
  at        bigint not null,
  primary key (tenant, sender, key)
);

-- The durable execution of a task or of one agent's part of it. This row is the queue.
create table run (
  id         uuid primary key,
  task       uuid not null,
  parent     uuid,
  parent_key text,
  tenant     text not null,
  principal  text not null,
  kind       text not null,
  agent      text,
  input      json not null,
  catalog    text not null,
  authority  json not null,
  state      text not null check (state in ('queued', 'running', 'waiting', 'done', 'failed', 'cancelled', 'dead')),
  owner      uuid,
  epoch      bigint not null default 0,
  wakes      bigint not null default 0,
  deaths     bigint not null default 0,
  died_at    bigint not null default 0,
  wake_at    bigint,
  priority   integer not null default 0,
  taint      integer not null default 0,
  created_at bigint not null,
  updated_at bigint not null,
  check ((state = 'running') = (owner is not null)),
  check ((parent is null) = (parent_key is null))
) with (fillfactor = 80);
create index run_queue on run (priority desc, (parent is null), id) where state = 'queued';
create index run_wake on run (wake_at) where state = 'waiting' and wake_at is not null;
create index run_owner on run (owner) where state = 'running';
create index run_task on run (task);

-- The journal: begun -> done, and nothing else.
create table step (
  run         uuid not null,
  key         text not null,
  tenant      text not null,
  seq         bigint not null,
  state       text not null check (state in ('begun', 'done')),
  kind        text not null check (kind in ('think', 'tool', 'child', 'signal', 'sleep', 'now')),
  agent       text,
  what        text not null,
  effect      text not null check (effect in ('pure', 'idempotent', 'verifiable', 'once')),
  op_hash     text not null,
  attempt     bigint not null,
  attempts    json not null,
  reserved    json,
  deadline    bigint,
  recorded    json,
  artefact    text,
  taint       integer not null default 0,
  begun_at    bigint not null,
  done_at     bigint,
  primary key (run, key),
  check ((state = 'done') = (done_at is not null)),
  check ((state = 'done') = (recorded is not null or artefact is not null))
) with (fillfactor = 80);

-- What came from outside for a waiting run: the first answer wins.
create table signal (
  run     uuid not null,
  name    text not null,
  tenant  text not null,
  payload json not null,
  by      text not null,
  at      bigint not null,
  primary key (run, name)
);

-- What happened, numbered within its task; written in the same commit as what it tells of.
create table event (
  task   uuid not null,
  seq    bigint not null,
  tenant text not null,
  run    uuid not null,
  at     bigint not null,
  body   json not null,
  primary key (task, seq)
);

-- Bodies by their SHA-256: the catalogs that runs work by, and results too long for their row.
create table content (
  tenant text not null,
  hash   text not null,
  body   text not null,
  primary key (tenant, hash)
);

-- API tokens: the hash only.
create table token (
  id         uuid primary key,
  tenant     text not null,
  hash       text not null unique,
  name       text not null,
  principal  text not null,
  scopes     json not null,
  created_at bigint not null,
  revoked_at bigint
);
create unique index token_name on token (tenant, name) where revoked_at is null;

-- Who may see what.
grant usage on schema majordomo to majordomo_engine, majordomo_app;
grant select, insert, update, delete on worker, task, inbox, run, step, signal, event, content, token
  to majordomo_engine;
grant select on task, run, step, signal, event, content, token to majordomo_app;
grant insert on content, token to majordomo_app;
grant update (revoked_at) on token to majordomo_app;

do $$
declare one text;
begin
  foreach one in array array['worker', 'task', 'inbox', 'run', 'step', 'signal', 'event', 'content', 'token'] loop
    execute format('alter table %I enable row level security', one);
    execute format('alter table %I force row level security', one);
    execute format('create policy engine on %I to majordomo_engine using (true) with check (true)', one);
    continue when one = 'worker';
    execute format('create policy app on %I to majordomo_app
                      using (tenant = current_setting(''majordomo.tenant'', true))
                      with check (tenant = current_setting(''majordomo.tenant'', true))', one);
  end loop;
end $$;
