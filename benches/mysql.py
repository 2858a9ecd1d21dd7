#!/usr/bin/env python3
"""How fast rows of MariaDB are put back: one a statement, as they are stored, against the long statements that a restore makes.

  benches/mysql.py                        200,000 rows
  benches/mysql.py --rows 2000            a few, to see that it runs

It prints a table in Markdown to standard output. Only Python's standard library is needed, and Debian's packages
mariadb-server-core and mariadb-client; the server lives in a temporary folder, with the settings that it has by itself.
"""
import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent


class Bench:
    def __init__(self, args, work):
        self.args, self.work, self.socket = args, work, work / 'socket'
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(('DEDUMP_', 'MYSQL_'))}
        self.env.update(DEDUMP_PASSWORD='of a bench', DEDUMP_REPO=str(work / 'repo'), XDG_STATE_HOME=str(work / 'state'))
        root = ['--user=root'] if os.geteuid() == 0 else []
        subprocess.run(['mariadb-install-db', '--no-defaults', *root, '--auth-root-authentication-method=normal',
                        '--skip-test-db', f'--datadir={work / "data"}'], check=True, stdout=subprocess.DEVNULL)
        self.server = subprocess.Popen(
            ['mariadbd', '--no-defaults', *root, f'--datadir={work / "data"}', f'--socket={self.socket}', '--skip-networking',
             '--log-bin=bin', '--server-id=1'], stdout=subprocess.DEVNULL, stderr=open(work / 'log', 'w'))
        while subprocess.run([*self.client(), '-e', 'DO 1'], stderr=subprocess.DEVNULL).returncode:
            assert self.server.poll() is None, (work / 'log').read_text()
            time.sleep(0.1)

    def client(self):
        return ['mariadb', '--no-defaults', '-N', '-B', '-uroot', f'--socket={self.socket}']

    def sql(self, script):
        return subprocess.run(self.client(), input=script, check=True, text=True, stdout=subprocess.PIPE).stdout

    def dedump(self, *words, **more):
        return subprocess.run([str(self.args.dedump), *words], check=True, env=self.env, **more)

    def url(self, database):
        return f'mysql://root@/{database}?socket={self.socket}'

    def fed(self, before, after):
        """The stream as it is stored, into the client."""
        self.sql('CREATE DATABASE copy')
        given = subprocess.Popen([str(self.args.dedump), 'restore', 'latest', '--stream', 'app/tables/t.sql', '--to', '-'],
                                 env=self.env, stdout=subprocess.PIPE)
        loads = subprocess.Popen([*self.client(), 'copy'], stdin=subprocess.PIPE)
        loads.stdin.write(before)
        while piece := given.stdout.read(1 << 20):
            loads.stdin.write(piece)
        loads.stdin.write(after)
        loads.stdin.close()
        assert given.wait() == 0 and loads.wait() == 0

    def restored(self):
        self.dedump('restore', 'latest', '--to', self.url('copy'), stdout=subprocess.DEVNULL)

    def measure(self, load, rounds):
        secs = []
        for _ in range(rounds):
            started = time.perf_counter()
            load()
            secs.append(time.perf_counter() - started)
            sums = {line.split('\t')[1] for line in self.sql('CHECKSUM TABLE app.t, copy.t').splitlines()}
            assert len(sums) == 1, 'what was loaded is not what was dumped'
            self.sql('DROP DATABASE copy')
        return median(secs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rows', type=int, default=200_000)
    parser.add_argument('--dedump', type=Path, default=HERE.parent / 'target' / 'release' / 'dedump')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix='dedump-bench-') as work:
        bench = Bench(args, Path(work))
        try:
            bench.sql(f'''CREATE DATABASE app; USE app; CREATE TABLE t (id int PRIMARY KEY, name varchar(60), n int, at datetime, KEY (name));
                INSERT INTO t SELECT seq, CONCAT('name ', MD5(seq)), seq % 1000, '2026-01-01' + INTERVAL seq SECOND FROM seq_1_to_{args.rows};''')
            bench.dedump('init', stdout=subprocess.DEVNULL)
            bench.dedump('backup', bench.url('app'), stdout=subprocess.DEVNULL)
            print('| way | time | rows/s |\n|---|---|---|')
            ways = [('one row a statement, as stored', lambda: bench.fed(b'', b''), 1),
                    ('the same in one transaction', lambda: bench.fed(b'SET autocommit = 0;\n', b'COMMIT;\n'), 1),
                    ('`restore --to mysql://`: long statements, counted, moved in', bench.restored, 3)]
            for name, load, rounds in ways:
                secs = bench.measure(load, rounds)
                print(f'| {name} | {secs:.2f} s | {args.rows / secs:,.0f} |', flush=True)
        finally:
            bench.server.kill()
            bench.server.wait()


if __name__ == '__main__':
    main()
