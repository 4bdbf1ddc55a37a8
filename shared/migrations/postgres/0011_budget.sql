-- What is spent and held, by whom it is paid. A task's own account stands in its row.
--
-- Accounts are locked after tasks, runs, bodies and steps: a tenant's own of all first, which every attempt
-- is paid from.

-- What attempts under way may use at worst, and what the task may use in all; no limit where absent.
alter table task add column held_usd bigint not null default 0;
alter table task add column held_tokens bigint not null default 0;
alter table task add column limit_usd bigint;
alter table task add column limit_tokens bigint;
-- The model that a step asks.
alter table step add column model text;

-- `day` and `month` say which ones their sums are of: days since 1970, months since the year 0.
create table account (
  tenant       text not null,
  scope        text not null check (scope in ('all', 'user', 'agent')),
  subject      text not null,
  day          bigint not null,
  month        bigint not null,
  day_usd      bigint not null,
  day_tokens   bigint not null,
  month_usd    bigint not null,
  month_tokens bigint not null,
  usd          bigint not null,
  tokens       bigint not null,
  held_usd     bigint not null,
  held_tokens  bigint not null,
  primary key (tenant, scope, subject),
  check ((scope = 'all') = (subject = ''))
) with (fillfactor = 50);

-- Limits that somebody set; they go before the configured ones. Without an amount there is none.
create table budget (
  tenant  text not null,
  scope   text not null check (scope in ('all', 'user', 'agent')),
  subject text not null,
  period  text not null check (period in ('day', 'month', 'total')),
  unit    text not null check (unit in ('usd', 'tokens')),
  amount  bigint check (amount >= 0),
  by      text not null,
  at      bigint not null,
  primary key (tenant, scope, subject, period, unit),
  check ((scope = 'all') = (subject = ''))
);

-- What was used on a day, by whom, for whom and by what. It outlives the journals.
create table spend (
  tenant        text not null,
  day           bigint not null,
  principal     text not null,
  agent         text not null,
  what          text not null,
  model         text not null,
  attempts      bigint not null,
  usd           bigint not null,
  tokens_in     bigint not null,
  tokens_cached bigint not null,
  tokens_out    bigint not null,
  primary key (tenant, day, principal, agent, what, model)
) with (fillfactor = 70);

grant select, insert, update, delete on account, budget, spend to majordomo_engine;
grant select on account, budget, spend to majordomo_app;

do $$
declare one text;
begin
  foreach one in array array['account', 'budget', 'spend'] loop
    execute format('alter table %I enable row level security', one);
    execute format('alter table %I force row level security', one);
    execute format('create policy engine on %I to majordomo_engine using (true) with check (true)', one);
    execute format('create policy app on %I to majordomo_app
                      using (tenant = current_setting(''majordomo.tenant'', true))
                      with check (tenant = current_setting(''majordomo.tenant'', true))', one);
  end loop;
end $$;

-- Steps that are under way have held nothing yet, and what their failed attempts used is not in the
-- task's sums: from here on both are.
create policy upgrade_task on task to majordomo_owner using (true) with check (true);
create policy upgrade_run on run for select to majordomo_owner using (true);
create policy upgrade_step on step for select to majordomo_owner using (true);
update task t set held_usd = u.usd, held_tokens = u.tokens
from (
  select r.task, sum((s.reserved->>'usd')::bigint) as usd,
         sum((s.reserved->>'tokens_in')::bigint + (s.reserved->>'tokens_out')::bigint) as tokens
  from step s join run r on r.id = s.run
  where s.state = 'begun' and s.reserved is not null and s.attempt > json_array_length(s.attempts)
  group by r.task) u
where t.id = u.task and t.state not in ('done', 'failed', 'cancelled');
update task t set tokens_in = t.tokens_in + u.tokens_in, tokens_cached = t.tokens_cached + u.tokens_cached,
                  tokens_out = t.tokens_out + u.tokens_out, usd_nano = t.usd_nano + u.usd
from (
  select r.task, sum((a->'usage'->>'tokens_in')::bigint) as tokens_in,
         sum((a->'usage'->>'tokens_cached')::bigint) as tokens_cached,
         sum((a->'usage'->>'tokens_out')::bigint) as tokens_out,
         sum((a->'usage'->>'usd')::bigint) as usd
  from step s join run r on r.id = s.run cross join lateral json_array_elements(s.attempts) a
  where s.state = 'begun'
  group by r.task) u
where t.id = u.task and t.state not in ('done', 'failed', 'cancelled');
drop policy upgrade_task on task;
drop policy upgrade_run on run;
drop policy upgrade_step on step;
