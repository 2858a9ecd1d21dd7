#!/usr/bin/env python3
"""What delta compression costs and saves: the same dumps, day by day, into a repository with it and into one without.

  benches/delta.py                                   one series of 14 days of 1 GiB, all formats
  benches/delta.py --seed 42 --seed 43               two series
  benches/delta.py --small                           5 days of 64 MiB, to see that it runs; no bound is judged
  benches/delta.py --series DIR --formats sql        a series that is there: dayNN.sql, dayNN.c0.dump, baseNN.tar

It prints tables in Markdown to standard output and what it does to standard error. Exit code: 0 all bounds that were
judged hold, 1 one is missed, 2 it could not be measured. Only Python's standard library is needed, and to make a series
PostgreSQL 15 and what else data/make-dumps.py says.
"""
import argparse
import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, median

HERE = Path(__file__).resolve().parent
GENERATOR = HERE / 'data' / 'make-dumps.py'
MIB = 1 << 20
FORMATS = {'sql': 'day{:02d}.sql', 'c0': 'day{:02d}.c0.dump', 'base': 'base{:02d}.tar'}
BASE_DAYS = (1, 2, 8, 14)
RESTORES = 5                    # of each snapshot; the median counts
MISSED = '**no**'
MODES = ('auto', 'off')         # of `dedump backup --delta`
# The bounds are for dumps of 1 GiB on 14 days, and judged on nothing else. Day 1 of such a dump lies between these.
JUDGED_DAYS, JUDGED_BYTES = 14, (900 * MIB, 1400 * MIB)


class Failure(Exception):
    """It cannot be measured."""


def say(message):
    print(time.strftime('%H:%M:%S'), message, file=sys.stderr, flush=True)


class Run:
    """A process that has ended well, and what it took."""

    def __init__(self, argv, stdin=None, discard=False):
        env = {name: value for name, value in os.environ.items() if not name.startswith('DEDUMP_')}
        argv = [str(word) for word in argv]
        temporary = tempfile.TemporaryFile
        with open(stdin or os.devnull, 'rb') as source, temporary() as out, temporary() as err:
            started = time.perf_counter()
            sink = subprocess.DEVNULL if discard else out
            process = subprocess.Popen(argv, stdin=source, stdout=sink, stderr=err, env=env)
            try:
                # wait4 tells what this one child took; Popen only remembers how it ended.
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            except BaseException:
                process.kill()
                process.wait()
                raise
            self.wall, self.cpu = time.perf_counter() - started, usage.ru_utime + usage.ru_stime
            self.peak = usage.ru_maxrss * 1024
            if process.returncode != 0:
                err.seek(0)
                words = err.read().decode(errors='replace').strip()
                raise Failure(f'exit code {process.returncode} of {" ".join(argv)}\n{words}')
            out.seek(0)
            self.out = out.read()

    def json(self):
        return json.loads(self.out)


def field(document, name, command):
    if name not in document:
        raise Failure(f'`dedump {command} --json` prints no `{name}`: this dedump is older than delta compression')
    return document[name]


def sha256(path):
    """Reads a file once, which also leaves it in the page cache."""
    digest, block = hashlib.sha256(), bytearray(MIB)
    with open(path, 'rb', buffering=0) as file:
        while length := file.readinto(block):
            digest.update(memoryview(block)[:length])
    return digest.hexdigest()


def build():
    """Builds dedump and returns its path, wherever cargo puts it."""
    say('cargo build --release -p dedump')
    argv = ['cargo', 'build', '--release', '--locked', '-p', 'dedump', '--message-format=json-render-diagnostics']
    result = subprocess.run(argv, cwd=HERE, stdout=subprocess.PIPE)
    messages = [json.loads(line) for line in result.stdout.splitlines()]
    paths = [m['executable'] for m in messages if m.get('executable') and m['target']['name'] == 'dedump']
    if result.returncode != 0 or not paths:
        raise Failure('dedump does not build')
    return Path(paths[-1])


def days_of(form, days):
    return [day for day in (BASE_DAYS if form == 'base' else range(1, days + 1)) if day <= days]


class Existing:
    """A series that somebody has made before."""

    def __init__(self, folder, formats, days):
        self.label, self.folder = f'series {folder.name}', folder
        missing = [name for form in formats for day in days_of(form, days)
                   if not (folder / (name := FORMATS[form].format(day))).is_file()]
        if missing:
            raise Failure(f'{folder} lacks {", ".join(missing)}')

    def take(self, form, day):
        return self.folder / FORMATS[form].format(day)

    begin = give_back = end = lambda self, *_: None


class Generated:
    """A series that is made as it is needed: of its dumps, one is on the disk at a time."""

    def __init__(self, folder, seed, size_mib, keep):
        self.label, self.folder, self.keep = f'seed {seed}', folder, keep
        folder.mkdir()
        # The server runs as another user if we are root, and must reach its data. Its port only names its socket.
        folder.chmod(0o755)
        port = next(port for port in range(54330, 65536) if not os.path.exists(f'/tmp/.s.PGSQL.{port}'))
        self.options = ['--dir', folder, '--seed', seed, '--size-mib', size_mib, '--port', port]

    def generator(self, *words):
        Run([sys.executable, GENERATOR, *words, *self.options])

    def begin(self, day):
        say(f'{self.label}: the database lives through day {day}')
        self.generator('day' if day > 1 else 'init', '--n', day)

    def take(self, form, day):
        self.generator('base' if form == 'base' else 'dump', '--n', day, '--formats', form)
        return self.folder / FORMATS[form].format(day)

    def give_back(self, path):
        if not self.keep:
            path.unlink()

    def end(self):
        self.generator('stop')
        shutil.rmtree(self.folder / 'pg' if self.keep else self.folder, ignore_errors=True)


class Backup:
    """One dump in one repository."""

    def __init__(self, run):
        snapshot = run.json()['snapshot']
        get = lambda name: field(snapshot, name, 'backup')
        self.wall, self.cpu, self.peak = run.wall, run.cpu, run.peak
        self.id, self.bytes, self.changed = get('id'), get('bytes'), get('bytes_new')
        self.added, self.meta, self.read_back = get('bytes_added'), get('bytes_added_meta'), get('bytes_read_back')
        self.chunks_new, self.chunks_delta = get('chunks_new'), get('chunks_delta')
        self.deepest = deepest(get('depths'))


class Repository:
    """One of the two that are compared, and what was measured with it."""

    def __init__(self, dedump, folder, mode, name):
        self.folder, self.mode, self.name = folder, mode, name
        self.backups, self.restores, self.bytes_read = {}, {}, {}
        folder.mkdir(parents=True)
        key = folder / 'key'
        Run([dedump, 'key', 'generate', key])
        self.options = [dedump, '--repo', folder / 'repo', '--key-file', key]
        self.dedump('init')

    def dedump(self, *words, **how):
        return Run([*self.options, *words], **how)

    def backup(self, day, path):
        words = ('backup', '--json', '--name', self.name, '--delta', self.mode, '-')
        self.backups[day] = Backup(self.dedump(*words, stdin=path))

    def verify(self, day, hashed):
        """Restores a dump to a file once and compares it; this also leaves what it needs in the page cache."""
        path = self.folder / 'restored'
        report = self.dedump('restore', '--json', self.backups[day].id, '--stream', self.name, '--to', path).json()
        if sha256(path) != hashed:
            raise Failure(f'day {day} of {self.name} came back with other bytes, --delta {self.mode}')
        path.unlink()
        self.bytes_read[day] = field(report, 'bytes_read', 'restore')

    def restore(self, day):
        run = self.dedump('restore', self.backups[day].id, '--stream', self.name, '--to', '-', discard=True)
        self.restores.setdefault(day, []).append(run)

    def restore_speed(self, day):
        return self.backups[day].bytes / median(run.wall for run in self.restores[day])

    def restore_peak(self):
        return max(run.peak for runs in self.restores.values() for run in runs)

    def all(self, fold, what, days):
        return fold(getattr(self.backups[day], what) for day in days)

    def total(self):
        """What all days added, of what the first did."""
        return self.all(sum, 'added', self.backups) / self.backups[min(self.backups)].added


class Track:
    """One format of one series."""

    def __init__(self, dedump, folder, form, label):
        self.form, self.label, self.hashes = form, label, {}
        name = FORMATS[form].replace('day{:02d}', 'app').replace('base{:02d}', 'base')
        self.repos = [Repository(dedump, folder / f'{form}-{mode}', mode, name) for mode in MODES]
        self.delta, self.off = self.repos
        self.orders = itertools.cycle((self.repos, self.repos[::-1]))

    def day(self, day, path):
        self.hashes[day] = sha256(path)
        os.sync()       # what the server and the dump left to write back would be written while a backup is measured
        for repo in next(self.orders):
            repo.backup(day, path)
        delta, off = (repo.backups[day] for repo in self.repos)
        say(f'{self.label}, {self.form}, day {day}: added {mib(delta.added)} MiB in {delta.wall:.2f} s, '
            f'without delta {mib(off.added)} MiB in {off.wall:.2f} s')

    def finish(self):
        """Restores the first and the last day, checks, and deletes the repositories."""
        self.days = sorted(self.hashes)
        self.ends = sorted({self.days[0], self.days[-1]})
        for repo in self.repos:
            for day in self.ends:
                repo.verify(day, self.hashes[day])
        for order in itertools.islice(self.orders, RESTORES):
            for day, repo in itertools.product(self.ends, order):
                repo.restore(day)
        self.check = self.delta.dedump('check', '--read-data')
        self.stats = {repo: repo.dedump('stats', '--json').json() for repo in self.repos}
        self.depths = [depth['chunks'] for depth in field(self.stats[self.delta], 'depths', 'stats')]
        say(f'{self.label}, {self.form}: restored, compared and checked')
        for repo in self.repos:
            shutil.rmtree(repo.folder)


def rehearse(dedump, folder):
    """Measures a tiny dump, so that a dedump which lacks something is found out now and not after hours."""
    track = Track(dedump, folder, 'sql', 'rehearsal')
    path = folder / 'tiny'
    path.write_text('a row\n' * 1000)
    track.day(1, path)
    track.finish()


def measure(dedump, series, formats, days, folder):
    """Backs a series up, then restores and checks it."""
    tracks = {form: Track(dedump, folder, form, series.label) for form in formats}
    try:
        for day in range(1, days + 1):
            series.begin(day)
            for form in (form for form in formats if day in days_of(form, days)):
                path = series.take(form, day)
                tracks[form].day(day, path)
                series.give_back(path)
    finally:
        series.end()
    for track in tracks.values():
        track.finish()
    return list(tracks.values())


def deepest(depths):
    return max((depth for depth, chunks in enumerate(depths) if chunks), default=0)


def number(value):
    return f'{value:.2f}'


def mib(length):
    return number(length / MIB)


def percent(part, whole):
    return f'{number(100 * part / whole)} %' if whole else '–'


def ratio(a, b):
    return number(a / b) if b else '–'


def table(head, rows):
    lines = ['| ' + ' | '.join(head) + ' |', '|' + '---|' * len(head)]
    return '\n'.join(lines + ['| ' + ' | '.join(map(str, row)) + ' |' for row in rows]) + '\n'


def day_table(track):
    head = ('day', 'raw MiB', 'changed MiB', 'added MiB', 'without delta MiB', 'meta and index MiB', 'of changed',
            'delta chunks', 'deepest', 's', 'without delta s', 'speed ratio')
    rows = []
    for day in track.days:
        delta, off = (repo.backups[day] for repo in track.repos)
        rows.append((day, mib(delta.bytes), mib(delta.changed), mib(delta.added), mib(off.added), mib(delta.meta),
                     percent(delta.meta, delta.changed), percent(delta.chunks_delta, delta.chunks_new),
                     delta.deepest, number(delta.wall), number(off.wall), ratio(off.wall, delta.wall)))
    return table(head, rows)


def span_of(days):
    if days != list(range(days[0], days[-1] + 1)):
        return 'days ' + ', '.join(map(str, days))
    return f'days {days[0]} to {days[-1]}' if len(days) > 1 else f'day {days[0]}'


def summary_table(track):
    """The two repositories side by side; the ratio is always that of `delta` to `without`."""
    first, later, rows = track.days[0], track.days[1:], []
    span = span_of(later)

    def row(measure, of, show, unit):
        a, b = map(of, track.repos)
        rows.append((measure, f'{show(a)} {unit}', f'{show(b)} {unit}', ratio(a, b)))

    row(f'added on day {first}', lambda repo: repo.backups[first].added, mib, 'MiB')
    row(f'added, mean of {span}', lambda repo: repo.all(mean, 'added', later), mib, 'MiB')
    row(f'added, worst of {span}', lambda repo: repo.all(max, 'added', later), mib, 'MiB')
    row(f'added on all days, of day {first}', lambda repo: repo.total(), number, '×')
    row(f'backup of {span}, wall time', lambda repo: repo.all(sum, 'wall', later), number, 's')
    row(f'backup of {span}, processor time', lambda repo: repo.all(sum, 'cpu', later), number, 's')
    row(f'backup of {span}, read back', lambda repo: repo.all(sum, 'read_back', later), mib, 'MiB')
    row('backup, peak memory', lambda repo: repo.all(max, 'peak', track.days), mib, 'MiB')
    for day in track.ends:
        row(f'restore of day {day}', lambda repo: repo.restore_speed(day), lambda speed: f'{speed / 1e6:.0f}', 'MB/s')
        row(f'restore of day {day}, read from the store', lambda repo: repo.bytes_read[day], mib, 'MiB')
    row('restore, peak memory', lambda repo: repo.restore_peak(), mib, 'MiB')
    row('stored in the end', lambda repo: track.stats[repo]['stored_bytes'], mib, 'MiB')
    rows.append(('`check --read-data`', f'{number(track.check.wall)} s, peak {mib(track.check.peak)} MiB', '', ''))
    rows.append(('chunks in the end, by depth of their chain', ', '.join(map(str, track.depths)), '', ''))
    return table(('measure', 'delta', 'without', 'ratio'), rows)


def bounds(track):
    """Rows of the table of bounds."""
    (first, last), later, (delta, off) = track.ends, track.days[1:], track.repos
    span, low, high = span_of(later), *JUDGED_BYTES
    judged = last == JUDGED_DAYS and low <= delta.backups[first].bytes <= high
    rows = []

    def bound(measure, figure, sign, limit, show):
        holds = figure <= limit if sign == '≤' else figure >= limit
        verdict = 'not judged' if not judged else 'yes' if holds else MISSED
        rows.append((track.form, track.label, measure, show(figure), f'{sign} {show(limit)}', verdict))

    in_mib = lambda length: f'{mib(length)} MiB'
    if track.form == 'base':
        bound(f'added on day {later[0]}', delta.backups[later[0]].added, '≤', 14 * MIB, in_mib)
    else:
        bound(f'added, mean of {span}', delta.all(mean, 'added', later), '≤', 9 * MIB, in_mib)
        bound(f'added, worst of {span}', delta.all(max, 'added', later), '≤', 20 * MIB, in_mib)
        bound(f'added on all days, of day {first}', delta.total(), '≤', 1.5, number)
        depth = max(delta.all(max, 'deepest', track.days), deepest(track.depths))
        bound('deepest chain', depth, '≤', 4, str)
    share = max(backup.meta / max(backup.changed, 1) for backup in map(delta.backups.get, later))
    bound(f'meta and index, of the changed bytes, worst of {span}', share, '≤', 0.015, lambda x: percent(x, 1))
    speed = off.all(sum, 'wall', later) / delta.all(sum, 'wall', later)
    bound(f'speed of backup, of that without, {span}', speed, '≥', 1.0, number)
    speed = delta.restore_speed(last) / delta.restore_speed(first)
    bound(f'speed of restore of day {last}, of that of day {first}', speed, '≥', 0.5, number)
    read = delta.bytes_read[last] / max(off.bytes_read[last], 1)
    bound(f'read for restore of day {last}, of that without', read, '≤', 1.6, number)
    bound('restore, peak memory', delta.restore_peak(), '≤', 400 * MIB, in_mib)
    return rows


def report(tracks):
    """All tables, and whether a bound is missed."""
    parts, rows = [], [row for track in tracks for row in bounds(track)]
    for track in tracks:
        parts += [f'### {track.form}, {track.label}\n', day_table(track), summary_table(track)]
    parts += ['### Bounds\n', table(('format', 'series', 'measure', 'figure', 'bound', 'holds'), rows)]
    return '\n'.join(parts), any(row[-1] == MISSED for row in rows)


def arguments():
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
    parser.add_argument('--size-mib', type=int, default=1024, help='rough size of the plain dump of day 1')
    parser.add_argument('--days', type=int, default=14)
    parser.add_argument('--seed', type=int, action='append', help='of the series that is made; may be repeated [42]')
    parser.add_argument('--formats', default=','.join(FORMATS), help='of pg_dump -Fp, pg_dump -Fc -Z0, pg_basebackup')
    parser.add_argument('--small', action='store_true', help='5 days of 64 MiB')
    parser.add_argument('--series', type=Path, metavar='DIR', help='use this series, and make none')
    parser.add_argument('--keep-series', action='store_true', help='do not delete the dumps that were made')
    parser.add_argument('--work', type=Path, metavar='DIR', help='where repositories and dumps go for a while [TMPDIR]')
    parser.add_argument('--dedump', type=Path, metavar='PATH', help='measure this binary, and build none')
    parser.add_argument('--markdown', type=Path, metavar='FILE', help='write the tables to this file too')
    args = parser.parse_args()
    asked = args.formats.split(',')
    if not set(asked) <= set(FORMATS) or args.days < 2:
        parser.error(f'--formats takes some of {", ".join(FORMATS)}; --days takes 2 or more')
    # Always in this order: a base backup holds what the dumps before it did to pages.
    args.formats = [form for form in FORMATS if form in asked]
    if args.small:
        args.size_mib, args.days = 64, 5
    if args.series and (args.seed or args.keep_series):
        parser.error('--series is a series that is there: it goes without --seed and --keep-series')
    args.seed = list(dict.fromkeys(args.seed or [42]))
    return args


def main():
    args = arguments()
    # A termination leaves no server behind either.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    dedump = args.dedump.resolve() if args.dedump else build()
    folder = Path(tempfile.mkdtemp(prefix='dedump-delta-', dir=args.work)).resolve()
    folder.chmod(0o755)
    tracks = []
    try:
        rehearse(dedump, folder / 'repositories')
        for seed in [None] if args.series else args.seed:
            series = Existing(args.series.resolve(), args.formats, args.days) if args.series else \
                Generated(folder / f'series-{seed}', seed, args.size_mib, args.keep_series)
            tracks += measure(dedump, series, args.formats, args.days, folder / 'repositories')
            text, missed = report(tracks)
            if args.markdown:
                args.markdown.write_text(text)
    finally:
        shutil.rmtree(folder / 'repositories' if args.keep_series else folder, ignore_errors=True)
    if args.keep_series:
        say(f'the series is in {folder}')
    print(text)
    return 1 if missed else 0


if __name__ == '__main__':
    try:
        sys.exit(main())
    except (Failure, OSError) as failure:
        print(f'delta.py: {failure}', file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
