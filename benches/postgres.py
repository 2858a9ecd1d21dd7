#!/usr/bin/env python3
"""A whole PostgreSQL database by `dedump backup postgres://`: one job against two, rows as they lie against rows in order.

  benches/postgres.py                     a database of 1 GiB that lives for 3 days
  benches/postgres.py --size-mib 64       a small one, to see that it runs
  benches/postgres.py --cluster DIR       the database of a series that is there (data/make-dumps.py init --dir DIR)

It prints tables in Markdown to standard output and what it does to standard error. Only Python's standard library is
needed, PostgreSQL 15, and what else data/make-dumps.py says. Processor time is that of dedump and the client tools, and of
the server's processes that ended meanwhile.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
GENERATOR = HERE / 'data' / 'make-dumps.py'
MIB = 1 << 20
TICKS = os.sysconf('SC_CLK_TCK')
DAYS = 3
WAYS = {'as they lie, one stream': [], 'as they lie, `--jobs 2`': ['--jobs', '2'],
        '`--order-by-key`': ['--order-by-key'], '`--order-by-key --jobs 2`': ['--order-by-key', '--jobs', '2']}


def say(message):
    print(time.strftime('%H:%M:%S'), message, file=sys.stderr, flush=True)


class Bench:
    def __init__(self, args):
        self.args = args
        self.cluster = args.cluster or Path(args.work) / 'cluster'
        self.url = f'postgres://postgres@/appdb?host=/tmp&port={args.port}'
        self.env = {name: value for name, value in os.environ.items() if not name.startswith('DEDUMP_')}
        self.env.update(DEDUMP_PASSWORD='of a bench', XDG_STATE_HOME=str(Path(args.work) / 'state'))

    def generate(self, *words):
        command = [sys.executable, str(GENERATOR), *words, '--dir', str(self.cluster), '--port', str(self.args.port),
                   '--size-mib', str(self.args.size_mib), '--days', str(DAYS)]
        subprocess.run(command, check=True, stdout=sys.stderr)

    def server_secs(self):
        pid = (self.cluster / 'pg' / 'postmaster.pid').read_text().split()[0]
        fields = Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()
        return sum(map(int, fields[11:15])) / TICKS

    def dedump(self, repo, *words):
        command = [str(self.args.dedump), '--repo', str(repo), '--json', *words]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            before, started = self.server_secs(), time.perf_counter()
            process = subprocess.Popen(command, stdout=out, stderr=err, env=self.env)
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - started
            process.returncode = os.waitstatus_to_exitcode(status)
            err.seek(0)
            if process.returncode:
                raise SystemExit(f'{" ".join(command)}: {err.read().decode()}')
            out.seek(0)
            time.sleep(0.2)         # until the server's processes have ended, too
            return json.load(out), wall, usage.ru_utime + usage.ru_stime, self.server_secs() - before

    def repository(self, name):
        repo = Path(self.args.work) / name
        shutil.rmtree(repo, ignore_errors=True)
        self.dedump(repo, 'init')
        return repo

    def jobs(self):
        taken = {}
        for number in range(self.args.rounds):
            repos = {jobs: self.repository(f'jobs-{jobs}') for jobs in (1, 2)}
            for step in ('first', 'unchanged'):
                # Each goes first as often as the other.
                for jobs in sorted(repos, reverse=number % 2):
                    say(f'round {number + 1}: {step} backup, --jobs {jobs}')
                    _, *secs = self.dedump(repos[jobs], 'backup', self.url, '--jobs', str(jobs))
                    taken.setdefault((step, jobs), []).append(secs)
        print('| backup | one job, s | two jobs, s | ratio | processor s, one job: dedump and tools, server | two jobs |')
        print('|---|---|---|---|---|---|')
        for step in ('first', 'unchanged'):
            one, two = (list(map(median, zip(*taken[step, jobs]))) for jobs in (1, 2))
            print(f'| {step} | {one[0]:.1f} | {two[0]:.1f} | {one[0] / two[0]:.2f} | {one[1]:.1f}, {one[2]:.1f} '
                  f'| {two[1]:.1f}, {two[2]:.1f} |')
        print()

    def order(self):
        repos = {way: self.repository(f'way-{number}') for number, way in enumerate(WAYS)}
        added = {way: [] for way in WAYS}
        secs = {way: [] for way in WAYS}
        for day in range(1, DAYS + 1):
            if day > 1:
                self.generate('day', '--n', str(day))
            for way, words in WAYS.items():
                say(f'day {day}: {way}')
                report, wall, *_ = self.dedump(repos[way], 'backup', self.url, *words)
                added[way].append(report['snapshot']['bytes_added'])
                secs[way].append(wall)
        days = range(1, DAYS + 1)
        print('| rows | ' + ' | '.join(f'day {day}, MiB added' for day in days) + ' | s, all days |')
        print('|---' * (DAYS + 2) + '|')
        for way in WAYS:
            print(f'| {way} | ' + ' | '.join(f'{n / MIB:.2f}' for n in added[way]) + f' | {sum(secs[way]):.1f} |')

    def run(self):
        if not self.args.cluster and self.cluster.exists():
            raise SystemExit(f'there is a {self.cluster} already; remove it, or use it with --cluster')
        self.generate('start' if self.args.cluster else 'init')
        try:
            self.jobs()
            self.order()
        finally:
            self.generate('stop')


def main():
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
    parser.add_argument('--size-mib', type=int, default=1024, help='about how large a plain dump of the database is')
    parser.add_argument('--cluster', type=Path, help='a database that is there, on day 1; it is changed')
    parser.add_argument('--rounds', type=int, default=3, help='of the jobs; medians are shown')
    parser.add_argument('--port', type=int, default=54331)
    parser.add_argument('--dedump', type=Path, default=HERE.parent / 'target' / 'release' / 'dedump')
    parser.add_argument('--work', help='where the database and repositories go [default: a temporary folder]')
    args = parser.parse_args()
    if not args.dedump.exists():
        sys.exit(f'there is no {args.dedump}; run cargo build --release -p dedump')
    if args.work:
        Path(args.work).mkdir(parents=True, exist_ok=True)
        return Bench(args).run()
    with tempfile.TemporaryDirectory(prefix='dedump-bench-') as args.work:
        os.chmod(args.work, 0o755)
        Bench(args).run()


if __name__ == '__main__':
    main()
