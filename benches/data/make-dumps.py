#!/usr/bin/env python3
"""A deterministic series of database dumps: a PostgreSQL cluster that lives for N "days".

  make-dumps.py all  [--dir /tmp/data --size-mib 1024 --days 14 --seed 42 ...]   everything below, in order
  make-dumps.py init [..]        initdb + load (day 1 state)
  make-dumps.py day  --n 2       apply the changes of day 2 (days must be applied in order)
  make-dumps.py dump --n 2       write dayNN.sql / dayNN.c0.dump / dayNN.cz.dump
  make-dumps.py base --n 2       write baseNN.tar (pg_basebackup -Ft -X fetch -D -)
  make-dumps.py redis            own redis-server, RDB series rdb01..NN.rdb
  make-dumps.py start | stop     the cluster

Only the standard library, psql/pgbench/pg_dump/initdb (PostgreSQL 15) and redis-server are needed. Run as root (the
servers run as user postgres through `setpriv`) or as any ordinary user (then that user owns the cluster).

Determinism: all values come from random.Random(seed, table, day) or from PostgreSQL's hashint8extended(id, day) /
md5(id||day); autovacuum is off and VACUUM is run at fixed points (days that are 1 mod 3, plus one table a day), so the
heap order, and with it the dump, is a function of (seed, size, days). pg_dump's own header time stamp (-Fc) and the
random \\restrict token (-Fp, PostgreSQL >= 15.14) are the only bytes that differ between two generations. The redis
series is not byte-reproducible (redis picks a random hash seed at start); its keys and values are.

What a day does (defaults): 1 % of the rows of every mutable table are updated, chosen uniformly at random and in
random order (--hot H puts the share H of them on the newest tenth of the rows), audit_log +1.5 %, metrics +2 %,
attachments +1 %, prompt_cards/users/configs +0.3 %, sessions: 15 % replaced, 0.2 % of configs deleted; on
--migration-day a column is added to app.users (every row of its COPY changes).
"""
import argparse, os, random, subprocess, sys, time, hashlib

ap = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
ap.add_argument('cmd', choices=['all', 'init', 'day', 'dump', 'base', 'redis', 'start', 'stop'])
ap.add_argument('--dir', default='/tmp/data')
ap.add_argument('--size-mib', type=int, default=1024, help='rough size of the plain dump of day 1')
ap.add_argument('--days', type=int, default=14)
ap.add_argument('--seed', type=int, default=42)
ap.add_argument('--port', type=int, default=54329)
ap.add_argument('--n', type=int, default=0)
ap.add_argument('--hot', type=float, default=0.0)
ap.add_argument('--migration-day', type=int, default=8)
ap.add_argument('--formats', default='sql,c0,cz')
ap.add_argument('--base-days', default='1,2,8,14')
ap.add_argument('--redis-mb', type=int, default=300)
ap.add_argument('--redis-days', type=int, default=5)
ap.add_argument('--redis-port', type=int, default=54379)
ap.add_argument('--pgbin', default='/usr/lib/postgresql/15/bin')
A = ap.parse_args()

PG = os.path.join(A.dir, 'pg')
F = A.size_mib / 1024.0
DB = 'appdb'
ENV = dict(os.environ, PGHOST='/tmp', PGPORT=str(A.port), PGUSER='postgres', PGDATABASE=DB, LC_ALL='C', TZ='UTC')

def as_pg(cmd):
    if os.geteuid() == 0:
        return ['setpriv', '--reuid=postgres', '--regid=postgres', '--init-groups'] + cmd
    return cmd

def sh(cmd, **kw):
    return subprocess.run(cmd, check=True, env=ENV, cwd='/tmp', **kw)

def psql(sql, db=DB):
    sh(as_pg([A.pgbin + '/psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', db, '-f', '-']), input=sql.encode(),
       stdout=subprocess.DEVNULL)

class Copy:
    """COPY table FROM STDIN fed from Python."""
    def __init__(self, target):
        self.p = subprocess.Popen(as_pg([A.pgbin + '/psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-c',
                                         f'COPY {target} FROM STDIN']), stdin=subprocess.PIPE, env=ENV, cwd='/tmp')
        self.buf = []
    def row(self, s):
        self.buf.append(s)
        if len(self.buf) >= 2000:
            self.flush()
    def flush(self):
        if self.buf:
            self.p.stdin.write(('\n'.join(self.buf) + '\n').encode()); self.buf = []
    def close(self):
        self.flush(); self.p.stdin.close()
        if self.p.wait(): sys.exit('COPY failed')

def R(*key):
    return random.Random('/'.join(map(str, (A.seed,) + key)))

# ---- vocabulary: 6,000 pseudo-words with a Zipf-like distribution ------------------------------------------------
def make_vocab():
    r = R('vocab')
    on = 'b c d f g h j k l m n p r s t v w br cr dr fr gr pr tr st sp pl cl fl bl th sh ch qu'.split() + ['', '']
    vo = 'a e i o u a e i o ea ai ou io'.split()
    co = ['', '', '', 'n', 'r', 's', 't', 'l', 'd', 'm', 'nd', 'st', 'ng', 'ck']
    common = ('the of and to a in is for you that with as be this from are or by it on an not your if use when must '
              'model user prompt answer context system should return only tool output response question data json '
              'list code text message input error value token config request service').split()
    seen, words = set(common), list(common)
    while len(words) < 6000:
        n = r.choice((1, 2, 2, 2, 3, 3, 4))
        w = ''.join(r.choice(on) + r.choice(vo) + r.choice(co) for _ in range(n))
        if w not in seen and 2 < len(w) < 15:
            seen.add(w); words.append(w)
    cum, t = [], 0.0
    for i in range(len(words)):
        t += 1.0 / (i + 3) ** 0.95
        cum.append(t)
    return words, cum
WORDS, CUM = make_vocab()

def text(r, n):
    ws = r.choices(WORDS, cum_weights=CUM, k=n)
    out, i = [], 0
    while i < n:
        k = r.randint(6, 18)
        s = ' '.join(ws[i:i + k])
        out.append(s[:1].upper() + s[1:] + r.choice(('.', '.', '.', '?', ':', '.\\n')))
        i += k
    return ' '.join(out)

def uuid(r):
    h = '%032x' % r.getrandbits(128)
    return f'{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:]}'

MODELS = ['gpt-4.1-mini', 'gpt-4.1', 'claude-sonnet-4', 'claude-haiku-3.5', 'llama-3.3-70b', 'mistral-large', 'gemini-2.5-pro', 'qwen3-32b']
ACTIONS = ['config.update', 'config.create', 'prompt.update', 'prompt.publish', 'user.login', 'user.logout', 'key.rotate', 'eval.run', 'trace.view', 'member.invite', 'dataset.upload', 'deploy.promote']
UAS = [f'Mozilla/5.0 ({o}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{v}.0.0.0 Safari/537.36'
       for o in ('X11; Linux x86_64', 'Macintosh; Intel Mac OS X 10_15_7', 'Windows NT 10.0; Win64; x64') for v in range(126, 138)] + \
      ['python-httpx/0.27.2', 'sdk-node/3.4.1', 'sdk-go/1.9.0', 'curl/8.5.0']
DAY0 = 1767225600          # 2026-01-01T00:00:00Z

def ts(t):
    us = int((t - int(t)) * 1e6)
    return time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(int(t))) + ('.%06d+00' % us)

def cfg_json(r):
    return ('{"model": "%s", "temperature": %.2f, "top_p": %.2f, "max_tokens": %d, "retries": {"max": %d, "backoff_ms": %d}, '
            '"routing": {"strategy": "%s", "weights": [%d, %d, %d], "fallback": "%s"}, "cache": {"enabled": %s, "ttl_s": %d}, '
            '"limits": {"rpm": %d, "tpm": %d}, "owner": "team-%s", "labels": ["%s", "%s"], "guardrails": {"pii": %s, "policy_id": "%s"}, "note": "%s"}') % (
        r.choice(MODELS), r.random(), r.random(), r.choice((256, 512, 1024, 2048, 4096)), r.randint(0, 5), r.randint(50, 3000),
        r.choice(('weighted', 'latency', 'cost', 'sticky')), r.randint(0, 100), r.randint(0, 100), r.randint(0, 100), r.choice(MODELS),
        r.choice(('true', 'false')), r.choice((60, 300, 3600, 86400)), r.randint(10, 5000), r.randint(1000, 900000),
        r.choice(WORDS[60:400]), r.choice(WORDS[60:900]), r.choice(WORDS[60:900]), r.choice(('true', 'false')), uuid(r), text(r, r.randint(4, 14)).replace('\\n', ' '))

N = {'users': int(90_000 * F), 'ns': max(20, int(2_000 * F)), 'configs': int(150_000 * F), 'cards': int(45_000 * F),
     'audit': int(800_000 * F), 'metrics': int(4_200_000 * F), 'sessions': int(80_000 * F), 'att': max(50, int(4_000 * F)),
     'pgb': max(1, round(20 * F))}

def gen_users(lo, hi, day):
    r = R('users', day); c = Copy('app.users(id,uid,org_id,email,name,role,password_hash,settings,created_at,last_login_at)')
    A64 = './ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789'
    for i in range(lo, hi):
        fn, ln = r.choice(WORDS[200:3000]), r.choice(WORDS[200:6000])
        t = DAY0 - r.random() * 86400 * 700 if day == 1 else DAY0 + (day - 1 + r.random()) * 86400
        c.row('\t'.join((str(i), uuid(r), str(r.randint(1, N['ns'])), f'{fn}.{ln}{r.randint(1, 9999)}@{r.choice(WORDS[60:500])}.example.com',
              f'{fn.title()} {ln.title()}', r.choice(('owner', 'admin', 'editor', 'viewer', 'viewer', 'viewer')),
              '$2b$12$' + ''.join(r.choices(A64, k=53)),
              '{"theme": "%s", "tz": "%s", "digest": %s, "beta": ["%s"]}' % (r.choice(('dark', 'light', 'system')), r.choice(('UTC', 'Europe/Berlin', 'America/New_York', 'Asia/Tokyo')), r.choice(('true', 'false')), r.choice(WORDS[60:200])),
              ts(t), ts(min(t + r.random() * 86400 * 60, DAY0 + day * 86400)))))
    c.close()

def gen_configs(lo, hi, day):
    r = R('configs', day); c = Copy('app.configs(id,uid,namespace_id,key,version,value,checksum,updated_by,updated_at)')
    for i in range(lo, hi):
        v = cfg_json(r)
        c.row('\t'.join((str(i), uuid(r), str(r.randint(1, N['ns'])), '.'.join(r.choices(WORDS[60:1200], k=3)), str(r.randint(1, 40)), v,
              hashlib.sha256(v.encode()).hexdigest(), str(r.randint(1, N['users'])), ts(DAY0 + (day - 1 - (r.random() * 400 if day == 1 else -r.random())) * 86400))))
    c.close()

def gen_cards(lo, hi, day):
    r = R('cards', day); c = Copy('app.prompt_cards(id,uid,namespace_id,title,body,tags,model,params,created_at,updated_at)')
    for i in range(lo, hi):
        t = DAY0 + (day - 1 - (r.random() * 400 if day == 1 else -r.random())) * 86400
        c.row('\t'.join((str(i), uuid(r), str(r.randint(1, N['ns'])), text(r, r.randint(3, 8)).replace('\\n', ' '), text(r, int(min(1500, 60 + r.expovariate(1 / 320.0)))),
              '{' + ','.join(r.choices(WORDS[60:300], k=r.randint(1, 5))) + '}', r.choice(MODELS),
              '{"temperature": %.2f, "stop": ["###"], "seed": %d}' % (r.random(), r.getrandbits(31)), ts(t), ts(t))))
    c.close()

def gen_audit(lo, hi, day):
    r = R('audit', day); c = Copy('app.audit_log(id,ts,event_id,actor_id,action,target_uid,ip,user_agent,details)')
    ips = ['%d.%d.%d.%d' % (r.randint(1, 223), r.randint(0, 255), r.randint(0, 255), r.randint(1, 254)) for _ in range(4000)]
    t, step = (DAY0 - 86400 * 60, 86400 * 60 / max(1, hi - lo)) if day == 1 else (DAY0 + (day - 1) * 86400, 86400 / max(1, hi - lo))
    for i in range(lo, hi):
        t += step * r.random() * 2
        c.row('\t'.join((str(i), ts(t), uuid(r), str(r.randint(1, N['users'])), r.choice(ACTIONS), uuid(r), r.choice(ips), r.choice(UAS),
              '{"request_id": "%s", "latency_ms": %d, "status": %d, "diff": {"%s": ["%s", "%s"]}}' % (
                  '%016x' % r.getrandbits(64), int(r.expovariate(1 / 80.0)), r.choice((200, 200, 200, 201, 204, 400, 403)),
                  r.choice(WORDS[60:400]), r.choice(WORDS), r.choice(WORDS)))))
    c.close()

def gen_metrics(n, day):
    r = R('metrics', day); c = Copy('app.metrics(ts,series_id,value,samples)')
    S = 600
    v = [r.random() * 100 for _ in range(S)]
    ticks = n // S + 1
    t0, dt = (DAY0 - 86400 * 50, 86400 * 50 / ticks) if day == 1 else (DAY0 + (day - 1) * 86400, 86400 / ticks)
    k = 0
    for j in range(ticks):
        t = time.strftime('%Y-%m-%d %H:%M:%S+00', time.gmtime(int(t0 + j * dt)))
        for s in range(S):
            if k >= n: break
            v[s] = abs(v[s] + r.gauss(0, 1.5))
            c.row('%s\t%d\t%.4f\t%d' % (t, s, v[s], r.randint(1, 60))); k += 1
    c.close()

def gen_sessions(lo, hi, day):
    r = R('sessions', day); c = Copy('app.sessions(id,token,user_id,ip,expires_at)')
    for i in range(lo, hi):
        c.row('\t'.join((str(i), '%064x' % r.getrandbits(256), str(r.randint(1, N['users'])),
              '%d.%d.%d.%d' % (r.randint(1, 223), r.randint(0, 255), r.randint(0, 255), r.randint(1, 254)), ts(DAY0 + (day + 13 + r.random()) * 86400))))
    c.close()

def gen_att(lo, hi, day):
    r = R('att', day); c = Copy('app.attachments(id,uid,card_id,mime,content)')
    for i in range(lo, hi):
        n = int(min(60000, 2000 + r.expovariate(1 / 8000.0)))
        c.row('\t'.join((str(i), uuid(r), str(r.randint(1, N['cards'])), r.choice(('image/png', 'application/pdf', 'application/zip')), '\\\\x' + r.randbytes(n).hex())))
    c.close()

SCHEMA = """
CREATE SCHEMA app;
CREATE TABLE app.namespaces(id int PRIMARY KEY, slug text NOT NULL, org text, created_at timestamptz);
CREATE TABLE app.users(id bigint PRIMARY KEY, uid uuid, org_id int, email text, name text, role text, password_hash text, settings jsonb, created_at timestamptz, last_login_at timestamptz);
CREATE TABLE app.configs(id bigint PRIMARY KEY, uid uuid, namespace_id int, key text, version int, value jsonb, checksum text, updated_by bigint, updated_at timestamptz);
CREATE TABLE app.prompt_cards(id bigint PRIMARY KEY, uid uuid, namespace_id int, title text, body text, tags text[], model text, params jsonb, created_at timestamptz, updated_at timestamptz);
CREATE TABLE app.audit_log(id bigint PRIMARY KEY, ts timestamptz, event_id uuid, actor_id bigint, action text, target_uid uuid, ip inet, user_agent text, details jsonb);
CREATE TABLE app.metrics(ts timestamptz, series_id int, value double precision, samples int);
CREATE TABLE app.sessions(id bigint PRIMARY KEY, token text, user_id bigint, ip inet, expires_at timestamptz);
CREATE TABLE app.attachments(id bigint PRIMARY KEY, uid uuid, card_id bigint, mime text, content bytea);
ALTER TABLE app.attachments ALTER content SET STORAGE EXTERNAL;
"""
IDX = """
CREATE INDEX ON app.users(email); CREATE INDEX ON app.configs(namespace_id, key); CREATE INDEX ON app.audit_log(ts);
CREATE INDEX ON app.metrics USING brin(ts); CREATE INDEX ON app.sessions(user_id);
"""

def start():
    subprocess.run(as_pg([A.pgbin + '/pg_ctl', '-D', PG, '-s', '-w', '-l', os.path.join(A.dir, 'pg.log'), 'start']), check=True, cwd='/tmp', env=ENV)
def stop():
    subprocess.run(as_pg([A.pgbin + '/pg_ctl', '-D', PG, '-s', '-m', 'fast', 'stop']), cwd='/tmp', env=ENV)

def log(*a):
    s = time.strftime('%H:%M:%S ') + ' '.join(map(str, a))
    print(s, flush=True)
    with open(os.path.join(A.dir, 'make-dumps.log'), 'a') as f: f.write(s + '\n')

def init():
    os.makedirs(A.dir, exist_ok=True)
    if os.geteuid() == 0:
        subprocess.run(['install', '-d', '-o', 'postgres', '-g', 'postgres', '-m', '700', PG], check=True)
        subprocess.run(['install', '-o', 'postgres', '-m', '644', '/dev/null', os.path.join(A.dir, 'pg.log')], check=True)
    sh(as_pg([A.pgbin + '/initdb', '-D', PG, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--data-checksums', '-N']), stdout=subprocess.DEVNULL)
    conf = f"""
port={A.port}
unix_socket_directories='/tmp'
listen_addresses=''
shared_buffers=512MB
fsync=off
full_page_writes=on
max_wal_size=2GB
wal_level=replica
max_wal_senders=4
archive_mode=on
archive_command='/bin/true'
autovacuum=off
synchronize_seqscans=off
max_parallel_workers_per_gather=0
timezone='UTC'
"""
    sh(as_pg(['sh', '-c', f'cat >> {PG}/postgresql.conf']), input=conf.encode())
    start()
    psql(f'CREATE DATABASE {DB}', 'postgres')
    t = time.time()
    sh(as_pg([A.pgbin + '/pgbench', '-i', '-q', '-s', str(N['pgb']), '-I', 'dtGvp', DB]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    psql(SCHEMA)
    r = R('ns'); c = Copy('app.namespaces')
    for i in range(1, N['ns'] + 1): c.row('\t'.join((str(i), '-'.join(r.choices(WORDS[60:900], k=2)), r.choice(WORDS[60:900]), ts(DAY0 - r.random() * 86400 * 700))))
    c.close()
    gen_users(1, N['users'] + 1, 1); gen_configs(1, N['configs'] + 1, 1); gen_cards(1, N['cards'] + 1, 1)
    gen_audit(1, N['audit'] + 1, 1); gen_metrics(N['metrics'], 1); gen_sessions(1, N['sessions'] + 1, 1); gen_att(1, N['att'] + 1, 1)
    psql(IDX + 'VACUUM ANALYZE; CHECKPOINT;')
    log('init done', round(time.time() - t), 's')

def hot(table, idcol='id', pct=100):
    """SQL that picks 1/pct of the rows, uniformly or (share --hot) from the newest tenth"""
    h = f"(hashint8extended({idcol}, %d) & 1048575)"
    if A.hot <= 0: return f"{h} < {1048576 // pct}"
    u = int(1048576 / pct * (1 - A.hot)); n = int(1048576 / pct * A.hot * 10)
    return f"{h} < (CASE WHEN {idcol} > (SELECT max({idcol}) * 0.9 FROM {table}) THEN {u + n} ELSE {u} END)"

def day(n):
    t = time.time(); d = ts(DAY0 + (n - 1) * 86400 + 3600)
    def loop(table, setexpr, where):
        return f"""DO $$ DECLARE r record; BEGIN FOR r IN SELECT id FROM {table} WHERE {where} ORDER BY hashint8extended(id, {n + 7000}) LOOP
          UPDATE {table} SET {setexpr} WHERE id = r.id; END LOOP; END $$;\n"""
    tsx = f"timestamptz '{d}' + ((hashint8extended(id, {n + 500}) & 16777215) * interval '5 milliseconds')"
    sql = ''
    if n == A.migration_day:
        sql += "ALTER TABLE app.users ADD COLUMN locale text NOT NULL DEFAULT 'en';\n"
    sql += loop('app.users', f"last_login_at = {tsx}", hot('app.users') % n)
    sql += loop('app.configs', f"version = version + 1, updated_at = {tsx}, checksum = encode(sha256((id::text || '{n}')::bytea), 'hex'), "
                f"value = jsonb_set(jsonb_set(value, '{{limits,rpm}}', to_jsonb((hashint8extended(id, {n + 900}) & 8191)::int)), '{{temperature}}', to_jsonb(round(((hashint8extended(id, {n + 901}) & 1023) / 1023.0)::numeric, 2)))", hot('app.configs') % n)
    sql += loop('app.prompt_cards', f"updated_at = {tsx}, body = overlay(body placing md5(id::text || '{n}') from 1 + (hashint8extended(id, {n + 902}) & 127)::int for 20) || ' ' || substr(body, 1 + (hashint8extended(id, {n + 903}) & 127)::int, 80)", hot('app.prompt_cards') % n)
    sql += f"DELETE FROM app.configs WHERE (hashint8extended(id, {n + 3000}) & 1048575) < 1048576 / 500;\n"
    sql += f"DELETE FROM app.sessions WHERE (hashint8extended(id, {n + 3001}) & 1048575) < 1048576 * 15 / 100;\n"
    psql(sql)
    # pgbench: 1 % of the accounts, TPC-B-like, one client, fixed seed, fixed clock
    tx = max(10, N['pgb'] * 1000)
    script = f"""\\set aid random(1, 100000 * :scale)
\\set bid random(1, :scale)
\\set tid random(1, 10 * :scale)
\\set delta random(-5000, 5000)
\\set sec random(0, 86399)
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, :bid, :aid, :delta, timestamp '{time.strftime('%Y-%m-%d', time.gmtime(DAY0 + (n - 1) * 86400))}' + :sec * interval '1 second');
"""
    sp = os.path.join(A.dir, 'pgbench.sql')
    with open(sp, 'w') as f: f.write('BEGIN;\n' + script + 'END;\n')
    sh(as_pg([A.pgbin + '/pgbench', '-n', '-c', '1', '-M', 'prepared', '-t', str(tx), '-s', str(N['pgb']), '-f', sp, '--random-seed', str(A.seed * 1000 + n), DB]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # appended rows
    g = lambda k, share: int(N[k] * share)
    def rng(k, share):
        a = N[k] + 1 + (n - 2) * g(k, share); return a, a + g(k, share)
    gen_audit(*rng('audit', 0.015), n); gen_metrics(g('metrics', 0.02), n); gen_att(*rng('att', 0.01), n)
    gen_users(*rng('users', 0.003), n); gen_configs(*rng('configs', 0.003), n); gen_cards(*rng('cards', 0.003), n)
    gen_sessions(*rng('sessions', 0.15), n)
    # "autovacuum", at fixed points: sessions daily, the rest every third day
    psql('VACUUM app.sessions;' + ('VACUUM ANALYZE;' if n % 3 == 1 else '') + 'CHECKPOINT;')
    log(f'day {n} applied', round(time.time() - t), 's')

def dump(n):
    for f, ext, args in (('sql', 'sql', ['-Fp']), ('c0', 'c0.dump', ['-Fc', '-Z0']), ('cz', 'cz.dump', ['-Fc'])):
        if f not in A.formats.split(','): continue
        p = os.path.join(A.dir, f'day{n:02d}.{ext}'); t = time.time()
        with open(p, 'wb') as o: sh(as_pg([A.pgbin + '/pg_dump'] + args + [DB]), stdout=o)
        log(f'dump {os.path.basename(p)} {os.path.getsize(p)} bytes {time.time() - t:.2f} s')

def base(n):
    p = os.path.join(A.dir, f'base{n:02d}.tar'); t = time.time()
    with open(p, 'wb') as o: sh(as_pg([A.pgbin + '/pg_basebackup', '-Ft', '-X', 'fetch', '-c', 'fast', '-D', '-']), stdout=o)
    log(f'basebackup {os.path.basename(p)} {os.path.getsize(p)} bytes {time.time() - t:.2f} s')

def redis():
    d = os.path.join(A.dir, 'redis'); os.makedirs(d, exist_ok=True)
    srv = subprocess.Popen(['redis-server', '--port', str(A.redis_port), '--bind', '127.0.0.1', '--dir', d, '--save', '', '--dbfilename', 'dump.rdb', '--loglevel', 'warning'], stdout=subprocess.DEVNULL)
    cli = ['redis-cli', '-p', str(A.redis_port)]
    for _ in range(100):
        if subprocess.run(cli + ['ping'], capture_output=True).stdout.strip() == b'PONG': break
        time.sleep(0.1)
    def enc(*a):
        o = [b'*%d\r\n' % len(a)]
        for x in a:
            x = x if isinstance(x, bytes) else str(x).encode(); o.append(b'$%d\r\n%s\r\n' % (len(x), x))
        return b''.join(o)
    def put(w, i, day):
        r = R('redis', i, day); k = i % 10
        if k < 5: w.write(enc('SET', f'cache:cfg:{i}', cfg_json(r)))
        elif k < 7: w.write(enc('HSET', f'session:{i}', 'uid', r.randint(1, 90000), 'token', '%064x' % r.getrandbits(256), 'ip', '10.%d.%d.%d' % (r.randint(0, 255), r.randint(0, 255), r.randint(0, 255)), 'exp', DAY0 + day * 86400 + r.randint(0, 86400)))
        elif k < 9: w.write(enc('SET', f'prompt:{i}', text(r, r.randint(30, 200)).replace('\\n', '\n')))
        else: w.write(enc('DEL', f'q:{i}')); w.write(enc('RPUSH', f'q:{i}', *[uuid(r) for _ in range(r.randint(2, 20))]))
    n = A.redis_mb * 2050
    try:
        for dday in range(1, A.redis_days + 1):
            t = time.time()
            p = subprocess.Popen(cli + ['--pipe'], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
            if dday == 1:
                for i in range(n): put(p.stdin, i, 1)
            else:
                r = R('redis-day', dday)
                for i in r.sample(range(n), n // 100): put(p.stdin, i, dday)
                for i in range(n // 100): put(p.stdin, n + (dday - 2) * (n // 100) + i, dday)
                for i in r.sample(range(n), n // 1000): p.stdin.write(enc('DEL', f'cache:cfg:{i}'))
            p.stdin.close(); p.wait()
            o = os.path.join(A.dir, f'rdb{dday:02d}.rdb')
            subprocess.run(cli + ['SAVE'], check=True, stdout=subprocess.DEVNULL)
            os.replace(os.path.join(d, 'dump.rdb'), o)
            log(f'redis {os.path.basename(o)} {os.path.getsize(o)} bytes {time.time() - t:.1f} s')
    finally:
        subprocess.run(cli + ['SHUTDOWN', 'NOSAVE'], capture_output=True); srv.wait(timeout=30)

def base_days(): return [int(x) for x in A.base_days.split(',') if x]

if A.cmd == 'all':
    init(); dump(1)
    if 1 in base_days(): base(1)
    for d in range(2, A.days + 1):
        day(d); dump(d)
        if d in base_days(): base(d)
    stop()
    if A.redis_days: redis()
elif A.cmd == 'init': init()
elif A.cmd == 'day': day(A.n)
elif A.cmd == 'dump': dump(A.n)
elif A.cmd == 'base': base(A.n)
elif A.cmd == 'redis': redis()
elif A.cmd == 'start': start()
elif A.cmd == 'stop': stop()
