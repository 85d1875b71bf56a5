-- The tables and functions of format 1. Runs in a transaction, with the schema as the search
-- path, which the functions keep. A later release adds functions under new names, so that hosts of two releases can
-- run side by side; it never changes one of these.

create table store (
    only_row boolean primary key default true check (only_row),
    format integer not null,
    store_id text not null,
    -- The server process and the timeline for which the revisions were last advanced.
    server text not null default '',
    -- Written to make earlier asynchronous commits durable.
    flushes bigint not null default 0
) with (fillfactor = 50);

-- One row for each component that was ever written; '' has the unscoped keys. The row is the
-- component's lock, usage counter and last revision. Rows are never deleted, because a writer
-- may wait for one. There is no index but that of the name, and half of each page is left
-- free, so that an update needs no entry in an index.
create table component (
    id bigint generated always as identity,
    name bytea primary key,
    -- Of the user keys and their values.
    bytes bigint not null default 0,
    keys bigint not null default 0,
    revision bigint,
    -- Reserved for exclusive ownership of a component.
    epoch bigint not null default 0
) with (fillfactor = 50);

-- Binary keys have the order of their bytes in every collation. Values are stored as they
-- are: without compression, and in a separate table if they are long, so that their length
-- can be read without them.
create table entry (
    component bigint not null,
    key bytea not null,
    revision bigint not null,
    -- Reserved; always null.
    expires_at timestamptz,
    value bytea not null,
    primary key (component, key)
);
alter table entry alter column value set storage external;

-- A cache would hand out revisions out of order.
create sequence revision as bigint cache 1;

insert into component (name) values ('');

-- Returns a server process and its timeline, which is another one after a restart, a crash and
-- a promotion.
create function server_v1() returns text
language sql stable set search_path from current as $$
    select extract(epoch from pg_postmaster_start_time())::text || '/' ||
        case when pg_is_in_recovery() then 'standby'
        else left(pg_walfile_name(pg_current_wal_lsn()), 8) end
$$;

-- Continues the revisions at the current time in nanoseconds if they are behind it, and
-- further, by at least a second's worth, if this server process has not done so yet: a crash
-- and a promotion may lose the last values of the sequence.
--
-- The caller's transaction must be durable before a revision is used. Other hosts may draw
-- revisions at the same time: they draw less than one in a nanosecond, so they do not reach
-- the margin.
create function advance_revisions_v1() returns void
language plpgsql set search_path from current as $$
declare
    margin constant bigint := 1000000000;
    current_server constant text := server_v1();
    known_server text;
    reached bigint;
    now_ns bigint;
begin
    select server into known_server from store for update;
    select last_value into reached from revision;
    now_ns := (extract(epoch from clock_timestamp()) * 1000000000)::bigint;
    if known_server <> current_server then
        perform setval('revision', greatest(now_ns, reached + margin));
        update store set server = current_server;
    elsif now_ns > reached + margin then
        perform setval('revision', now_ns);
    end if;
end
$$;

-- Fails unless the session is one of the store that has this token, which begins with the
-- durability of its writes. A pooler that shares connections between transactions may run a
-- call in a session with other settings.
create function check_session_v1(p_session text) returns void
language plpgsql as $$
begin
    if current_setting('storage.session', true) is distinct from p_session
        or left(p_session, 5) = 'sync-'
            and current_setting('synchronous_commit') not in ('on', 'remote_apply')
    then
        raise exception sqlstate 'ST001' using message = 'the session has other settings';
    end if;
end
$$;

-- Locks the row of a component, which is created if it is missing.
create function lock_component_v1(
    p_name bytea,
    out v_id bigint, out v_bytes bigint, out v_keys bigint, out v_revision bigint
) language plpgsql set search_path from current as $$
begin
    select id, bytes, keys, revision into v_id, v_bytes, v_keys, v_revision
        from component where name = p_name for no key update;
    if not found then
        insert into component (name) values (p_name) on conflict do nothing;
        select id, bytes, keys, revision into v_id, v_bytes, v_keys, v_revision
            from component where name = p_name for no key update;
    end if;
end
$$;

-- Writes one key; a null value deletes it. The limits are those of a budget, null without one.
-- Statuses: 0 written, 1 over the budget. Returns the revision of the write, and the one that
-- the component had before.
--
-- Several statements, each of which sees what was committed before the lock was granted. A
-- single statement would read a state older than its own lock.
create function write_v1(
    p_session text, p_name bytea, p_key bytea, p_value bytea,
    p_max_bytes bigint, p_max_keys bigint,
    out status integer, out written bigint, out previous bigint
) language plpgsql set search_path from current as $$
declare
    v_id bigint;
    v_bytes bigint;
    v_keys bigint;
    v_old bigint;
    v_added bigint;
begin
    perform check_session_v1(p_session);
    status := 0;
    select id, bytes, keys, revision into v_id, v_bytes, v_keys, previous
        from component where name = p_name for no key update;
    if not found then
        select * into v_id, v_bytes, v_keys, previous from lock_component_v1(p_name);
    end if;
    if p_value is null then
        delete from entry where component = v_id and key = p_key
            returning octet_length(value) into v_old;
        if found then
            v_bytes := v_bytes - octet_length(p_key) - v_old;
            v_keys := v_keys - 1;
        end if;
        written := nextval('revision');
    else
        select octet_length(value) into v_old from entry where component = v_id and key = p_key;
        if found then
            v_added := octet_length(p_value) - v_old;
            if v_added > 0 and v_bytes + v_added > p_max_bytes then
                status := 1;
                return;
            end if;
            written := nextval('revision');
            update entry set value = p_value, revision = written
                where component = v_id and key = p_key;
        else
            v_added := octet_length(p_key) + octet_length(p_value);
            if v_keys + 1 > p_max_keys or v_added > 0 and v_bytes + v_added > p_max_bytes then
                status := 1;
                return;
            end if;
            written := nextval('revision');
            insert into entry (component, key, revision, value)
                values (v_id, p_key, written, p_value);
            v_keys := v_keys + 1;
        end if;
        v_bytes := v_bytes + v_added;
    end if;
    update component set bytes = v_bytes, keys = v_keys, revision = written where name = p_name;
end
$$;

-- As write_v1 for several writes to one component, each of which is a commit of its own.
-- Returns the revision of each write, null for one that is over its budget, and the revision
-- that the component had before the first.
create function write_many_v1(
    p_session text, p_name bytea, p_keys bytea[], p_values bytea[],
    p_max_bytes bigint[], p_max_keys bigint[],
    out written bigint[], out previous bigint
) language plpgsql set search_path from current as $$
declare
    v_id bigint;
    v_bytes bigint;
    v_keys bigint;
    v_last bigint;
    v_key bytea;
    v_value bytea;
    v_old bigint;
    v_revision bigint;
    v_added bigint;
begin
    perform check_session_v1(p_session);
    written := array_fill(null::bigint, array[cardinality(p_keys)]);
    select id, bytes, keys, revision into v_id, v_bytes, v_keys, previous
        from component where name = p_name for no key update;
    if not found then
        select * into v_id, v_bytes, v_keys, previous from lock_component_v1(p_name);
    end if;
    for n in 1 .. cardinality(p_keys) loop
        v_key := p_keys[n];
        v_value := p_values[n];
        if v_value is null then
            v_revision := nextval('revision');
            delete from entry where component = v_id and key = v_key
                returning octet_length(value) into v_old;
            if found then
                v_bytes := v_bytes - octet_length(v_key) - v_old;
                v_keys := v_keys - 1;
            end if;
        else
            select octet_length(value) into v_old from entry
                where component = v_id and key = v_key;
            if found then
                v_added := octet_length(v_value) - v_old;
                if v_added > 0 and v_bytes + v_added > p_max_bytes[n] then
                    continue;
                end if;
                v_revision := nextval('revision');
                update entry set value = v_value, revision = v_revision
                    where component = v_id and key = v_key;
            else
                v_added := octet_length(v_key) + octet_length(v_value);
                if v_keys + 1 > p_max_keys[n]
                    or v_added > 0 and v_bytes + v_added > p_max_bytes[n]
                then
                    continue;
                end if;
                v_revision := nextval('revision');
                insert into entry (component, key, revision, value)
                    values (v_id, v_key, v_revision, v_value);
                v_keys := v_keys + 1;
            end if;
            v_bytes := v_bytes + v_added;
        end if;
        written[n] := v_revision;
        v_last := v_revision;
    end loop;
    if v_last is not null then
        update component set bytes = v_bytes, keys = v_keys, revision = v_last
            where name = p_name;
    end if;
end
$$;

-- Applies commits one after the other, each all or nothing.
--
-- p_names has the components of all commits, in byte order, so that two calls lock them in the
-- same order. Checks and writes name theirs by its position in p_names. The other arrays have
-- an element for each commit (c_), check (k_) or write (w_). The writes of a commit are to
-- different keys; a null value deletes. c_budget is the position of the component that the
-- limits are for, 0 without a budget. Kinds of checks: 0 absent, 1 present, 2 revision,
-- 3 value.
--
-- Statuses: 0 committed, 1 over the budget, 2 present but must be absent, 3 absent but must be
-- present, 4 another revision or value. failed_check is the position of the failed check
-- within its commit. previous has the revision that each component had before.
create function commit_v1(
    p_session text, p_names bytea[],
    c_checks integer[], c_writes integer[], c_budget integer[],
    c_max_bytes bigint[], c_max_keys bigint[],
    k_component integer[], k_key bytea[], k_kind integer[], k_revision bigint[], k_value bytea[],
    w_component integer[], w_key bytea[], w_value bytea[]
) returns table (status integer, failed_check integer, written bigint, previous bigint[])
language plpgsql set search_path from current as $$
declare
    ids bigint[];
    bytes_of bigint[];
    keys_of bigint[];
    revisions bigint[];
    changed boolean[];
    old_lengths bigint[];
    v_id bigint;
    v_bytes bigint;
    v_keys bigint;
    v_revision bigint;
    v_value bytea;
    v_old bigint;
    at_component integer;
    check_at integer := 0;
    write_at integer := 0;
    budget_bytes bigint;
    budget_keys bigint;
begin
    perform check_session_v1(p_session);
    for i in 1 .. cardinality(p_names) loop
        select id, bytes, keys, revision into v_id, v_bytes, v_keys, v_revision
            from component where name = p_names[i] for no key update;
        if not found then
            select * into v_id, v_bytes, v_keys, v_revision from lock_component_v1(p_names[i]);
        end if;
        ids[i] := v_id;
        bytes_of[i] := v_bytes;
        keys_of[i] := v_keys;
        revisions[i] := v_revision;
        changed[i] := false;
    end loop;

    for c in 1 .. cardinality(c_checks) loop
        status := 0;
        failed_check := null;
        written := null;
        previous := revisions;

        for n in 1 .. c_checks[c] loop
            exit when status <> 0;
            if k_kind[check_at + n] = 3 then
                select e.revision, e.value into v_revision, v_value from entry e
                    where e.component = ids[k_component[check_at + n]]
                        and e.key = k_key[check_at + n];
            else
                select e.revision into v_revision from entry e
                    where e.component = ids[k_component[check_at + n]]
                        and e.key = k_key[check_at + n];
            end if;
            case k_kind[check_at + n]
                when 0 then
                    if found then status := 2; end if;
                when 1 then
                    if not found then status := 3; end if;
                when 2 then
                    if not found or v_revision <> k_revision[check_at + n] then
                        status := 4;
                    end if;
                else
                    if not found or v_value <> k_value[check_at + n] then status := 4; end if;
            end case;
            if status <> 0 then failed_check := n; end if;
        end loop;
        check_at := check_at + c_checks[c];

        if status = 0 then
            budget_bytes := 0;
            budget_keys := 0;
            old_lengths := '{}';
            for n in 1 .. c_writes[c] loop
                at_component := w_component[write_at + n];
                v_old := null;
                select octet_length(e.value) into v_old from entry e
                    where e.component = ids[at_component] and e.key = w_key[write_at + n];
                old_lengths[n] := v_old;
                if at_component = c_budget[c] then
                    if v_old is not null then
                        budget_bytes := budget_bytes - octet_length(w_key[write_at + n]) - v_old;
                        budget_keys := budget_keys - 1;
                    end if;
                    if w_value[write_at + n] is not null then
                        budget_bytes := budget_bytes + octet_length(w_key[write_at + n])
                            + octet_length(w_value[write_at + n]);
                        budget_keys := budget_keys + 1;
                    end if;
                end if;
            end loop;
            if c_budget[c] > 0 and (
                budget_bytes > 0 and bytes_of[c_budget[c]] + budget_bytes > c_max_bytes[c]
                or budget_keys > 0 and keys_of[c_budget[c]] + budget_keys > c_max_keys[c]
            ) then
                status := 1;
            end if;
        end if;

        if status = 0 then
            written := nextval('revision');
            for n in 1 .. c_writes[c] loop
                at_component := w_component[write_at + n];
                if old_lengths[n] is not null then
                    bytes_of[at_component] := bytes_of[at_component]
                        - octet_length(w_key[write_at + n]) - old_lengths[n];
                    keys_of[at_component] := keys_of[at_component] - 1;
                end if;
                if w_value[write_at + n] is null then
                    if old_lengths[n] is not null then
                        delete from entry e
                            where e.component = ids[at_component] and e.key = w_key[write_at + n];
                    end if;
                else
                    if old_lengths[n] is not null then
                        update entry e set value = w_value[write_at + n], revision = written
                            where e.component = ids[at_component] and e.key = w_key[write_at + n];
                    else
                        insert into entry (component, key, revision, value)
                            values (ids[at_component], w_key[write_at + n], written,
                                w_value[write_at + n]);
                    end if;
                    bytes_of[at_component] := bytes_of[at_component]
                        + octet_length(w_key[write_at + n]) + octet_length(w_value[write_at + n]);
                    keys_of[at_component] := keys_of[at_component] + 1;
                end if;
                revisions[at_component] := written;
                changed[at_component] := true;
            end loop;
            if c_writes[c] = 0 then
                -- A row must change, or a crash could lose the revision.
                revisions[1] := written;
                changed[1] := true;
            end if;
        end if;
        write_at := write_at + c_writes[c];
        return next;
    end loop;

    for i in 1 .. cardinality(p_names) loop
        if changed[i] then
            update component set bytes = bytes_of[i], keys = keys_of[i], revision = revisions[i]
                where name = p_names[i];
        end if;
    end loop;
end
$$;
