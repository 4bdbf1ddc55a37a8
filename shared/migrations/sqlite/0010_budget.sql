-- What is spent and held, by whom it is paid. A task's own account stands in its row.

-- What attempts under way may use at worst, and what the task may use in all; no limit where absent.
alter table task add column held_usd integer not null default 0;
alter table task add column held_tokens integer not null default 0;
alter table task add column limit_usd integer;
alter table task add column limit_tokens integer;
-- The model that a step asks.
alter table step add column model text;

-- `day` and `month` say which ones their sums are of: days since 1970, months since the year 0.
create table account (
  tenant       text not null,
  scope        text not null check (scope in ('all', 'user', 'agent')),
  subject      text not null,
  day          integer not null,
  month        integer not null,
  day_usd      integer not null,
  day_tokens   integer not null,
  month_usd    integer not null,
  month_tokens integer not null,
  usd          integer not null,
  tokens       integer not null,
  held_usd     integer not null,
  held_tokens  integer not null,
  primary key (tenant, scope, subject),
  check ((scope = 'all') = (subject = ''))
) strict, without rowid;

-- Limits that somebody set; they go before the configured ones. Without an amount there is none.
create table budget (
  tenant  text not null,
  scope   text not null check (scope in ('all', 'user', 'agent')),
  subject text not null,
  period  text not null check (period in ('day', 'month', 'total')),
  unit    text not null check (unit in ('usd', 'tokens')),
  amount  integer check (amount >= 0),
  by      text not null,
  at      integer not null,
  primary key (tenant, scope, subject, period, unit),
  check ((scope = 'all') = (subject = ''))
) strict, without rowid;

-- What was used on a day, by whom, for whom and by what. It outlives the journals.
create table spend (
  tenant        text not null,
  day           integer not null,
  principal     text not null,
  agent         text not null,
  what          text not null,
  model         text not null,
  attempts      integer not null,
  usd           integer not null,
  tokens_in     integer not null,
  tokens_cached integer not null,
  tokens_out    integer not null,
  primary key (tenant, day, principal, agent, what, model)
) strict, without rowid;

-- Steps that are under way have held nothing yet, and what their failed attempts used is not in the
-- task's sums: from here on both are.
update task set
  held_usd = coalesce((
    select sum(json_extract(s.reserved, '$.usd')) from step s join run r on r.id = s.run
    where r.task = task.id and s.state = 'begun' and s.reserved is not null
      and s.attempt > json_array_length(s.attempts)), 0),
  held_tokens = coalesce((
    select sum(json_extract(s.reserved, '$.tokens_in') + json_extract(s.reserved, '$.tokens_out'))
    from step s join run r on r.id = s.run
    where r.task = task.id and s.state = 'begun' and s.reserved is not null
      and s.attempt > json_array_length(s.attempts)), 0),
  tokens_in = tokens_in + coalesce((
    select sum(json_extract(a.value, '$.usage.tokens_in'))
    from step s join run r on r.id = s.run join json_each(s.attempts) a
    where r.task = task.id and s.state = 'begun'), 0),
  tokens_cached = tokens_cached + coalesce((
    select sum(json_extract(a.value, '$.usage.tokens_cached'))
    from step s join run r on r.id = s.run join json_each(s.attempts) a
    where r.task = task.id and s.state = 'begun'), 0),
  tokens_out = tokens_out + coalesce((
    select sum(json_extract(a.value, '$.usage.tokens_out'))
    from step s join run r on r.id = s.run join json_each(s.attempts) a
    where r.task = task.id and s.state = 'begun'), 0),
  usd_nano = usd_nano + coalesce((
    select sum(json_extract(a.value, '$.usage.usd'))
    from step s join run r on r.id = s.run join json_each(s.attempts) a
    where r.task = task.id and s.state = 'begun'), 0)
where state not in ('done', 'failed', 'cancelled');
