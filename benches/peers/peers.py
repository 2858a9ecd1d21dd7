#!/usr/bin/env python3
"""dedump beside restic, borg and rustic, and beside what people do without them, on the same dumps in the same run.

  benches/peers/peers.py                              14 days of 1 GiB, three rounds: hours
  benches/peers/peers.py --small                      3 days of 64 MiB, one round: minutes
  benches/peers/peers.py --series DIR --days 3        a series that is there: dayNN.sql, dayNN.c0.dump, baseNN.tar
  benches/peers/peers.py --tools dedump,borg          only these
  benches/peers/peers.py --s3                         also counts requests, at an S3 server of its own

It prints tables in Markdown to standard output and what it does to standard error. What a tool restores is compared with what it
was given before any of its figures counts: a tool that stores yesterday's bytes is fast. Tools take turns step by step, so that what
others do on the machine meets all of them; repositories are on the disk of `--work`, and what is read, input and repository, lies in
the page cache. `benches/peers/install`
puts the tools there first: borg and rustic are built, which takes a quarter of an hour once.
"""
import argparse
import hashlib
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
sys.path.insert(0, str(HERE.parent))
from stores import Server, build_front, build_server
ROOT = HERE.parent.parent
GENERATOR = HERE.parent / 'data' / 'make-dumps.py'
MIB = 1 << 20
FORMATS = {'sql': 'day{:02d}.sql', 'c0': 'day{:02d}.c0.dump', 'base': 'base{:02d}.tar'}
SECRET = 'of a bench'


def say(message):
    print(time.strftime('%H:%M:%S'), message, file=sys.stderr, flush=True)


class Failed(Exception):
    """A tool did not do what it should."""


class Cost:
    """What one command took."""

    def __init__(self, wall, cpu, peak):
        self.wall, self.cpu, self.peak = wall, cpu, peak

    def __add__(self, other):
        return Cost(self.wall + other.wall, self.cpu + other.cpu, max(self.peak, other.peak))


def run(command, env, stdin=None, digest=None, drained=False):
    """Runs a command to a good end. Its input comes from a pipe, as that of a dump does; its output is thrown away, by another
    process at the end of a pipe if it is to be drained, or hashed."""
    # What others wrote would be written to the disk at this command's expense.
    os.sync()
    if stdin:
        warm(stdin)
    drain = subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) if drained else None
    feeder = subprocess.Popen(['cat', stdin], stdout=subprocess.PIPE) if stdin else None
    with tempfile.TemporaryFile() as said:
        out = subprocess.PIPE if digest else drain.stdin if drain else subprocess.DEVNULL
        source = feeder.stdout if feeder else subprocess.DEVNULL
        started = time.perf_counter()
        process = subprocess.Popen([str(word) for word in command], stdin=source, stdout=out, stderr=said, env=env)
        if feeder:
            feeder.stdout.close()
        if drain:
            drain.stdin.close()
        if digest:
            while piece := process.stdout.read(MIB):
                digest.update(piece)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if drain:
            drain.wait()
        if feeder and feeder.wait() != 0:
            raise Failed(f'{command[0]} did not read its input to the end')
        if process.returncode != 0:
            said.seek(0)
            words = said.read().decode(errors='replace').strip().splitlines()[-3:]
            raise Failed(f'{" ".join(map(str, command))}: exit {process.returncode}: {" / ".join(words)}')
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def warm(path):
    """Brings a file, or all files of a folder, back into the page cache: systems that save memory drop what nobody has read for a
    minute, and the tools take turns."""
    path = Path(path)
    for file in (entry for entry in (path.rglob('*') if path.is_dir() else [path]) if entry.is_file()):
        with open(file, 'rb') as opened:
            while opened.read(MIB):
                pass


def stored_bytes(path):
    return sum(entry.stat().st_size for entry in Path(path).rglob('*') if entry.is_file())


class Tool:
    """A tool with a repository of its own. Every step is a list of commands."""
    name = ''
    is_peer = True
    package = None      # what `benches/peers/install` calls it
    version_word = '--version'

    def __init__(self, program, work):
        self.program, self.call, self.work = program, [program], Path(work) / self.name
        self.work.mkdir(parents=True)
        self.repository = self.work / 'repository'
        self.env = dict(os.environ, HOME=str(self.work), XDG_CACHE_HOME=str(self.work / 'cache'), TMPDIR=str(self.work),
                        XDG_STATE_HOME=str(self.work / 'state'))
        self.days = {}

    @classmethod
    def find(cls, args):
        return shutil.which(cls.name)

    def at_s3(self, server):
        """Puts the repository into a bucket; tells whether the tool can."""
        return False

    def version(self):
        said = subprocess.run([self.program, self.version_word], capture_output=True, text=True, env=self.env)
        return (said.stdout or said.stderr).strip().splitlines()[0]

    def all(self, commands, **where):
        cost = None
        for command in commands:
            one = run(command, self.env, **where)
            cost = cost + one if cost else one
        return cost

    def backup(self, day, path):
        return self.all([self.backup_command(day)], stdin=path)

    def restore(self, day, digest=None):
        return self.all([self.restore_command(day)], digest=digest, drained=digest is None)


class Dedump(Tool):
    name = 'dedump'
    is_peer = False

    @classmethod
    def find(cls, args):
        return args.dedump if Path(args.dedump).exists() else None

    def at_s3(self, server):
        self.repository = f's3://bench/{self.name}'
        self.env.update(server.environment)
        self.call = [self.program, '--allow-http']
        return True

    def init(self):
        self.env.update(DEDUMP_REPO=str(self.repository), DEDUMP_KEY_FILE=str(self.work / 'key'))
        run([self.program, 'key', 'generate', self.work / 'key'], self.env)
        run([*self.call, 'init'], self.env)

    def backup_command(self, day):
        return [*self.call, 'backup', '--quiet', '--name', 'db', '--tag', f'day={day}', '-']

    def restore_command(self, day):
        return [*self.call, 'restore', 'latest', '--tag', f'day={day}', '--to', '-']

    def steps(self):
        return {'list': [[*self.call, 'snapshots']], 'check': [[*self.call, 'check']],
                'check with data': [[*self.call, 'check', '--read-data']],
                'forget all but one, and prune': [[*self.call, 'forget', '--keep-last', '1'],
                                                  [*self.call, 'prune', '--quiet']]}


class Restic(Tool):
    name = 'restic'
    package = 'restic'
    version_word = 'version'

    def at_s3(self, server):
        self.repository = f's3:{server.endpoint}/bench/{self.name}'
        self.env.update(server.environment)
        return True

    def init(self):
        self.env.update(RESTIC_REPOSITORY=str(self.repository), RESTIC_PASSWORD=SECRET)
        run([self.program, 'init'], self.env)

    def backup_command(self, day):
        return [self.program, 'backup', '--quiet', '--stdin', '--stdin-filename', 'db.dump', '--tag', f'day{day}']

    def restore_command(self, day):
        return [self.program, 'dump', '--quiet', '--tag', f'day{day}', 'latest', '/db.dump']

    def steps(self):
        return {'list': [[self.program, 'snapshots']], 'check': [[self.program, 'check']],
                'check with data': [[self.program, 'check', '--read-data']],
                'forget all but one, and prune': [[self.program, 'forget', '--group-by', '', '--keep-last', '1', '--prune']]}


class Rustic(Restic):
    name = 'rustic'
    package = 'rustic'
    version_word = '--version'

    def at_s3(self, server):
        self.repository = 'opendal:s3'
        key = server.environment['AWS_ACCESS_KEY_ID']
        options = {'BUCKET': 'bench', 'ROOT': f'/{self.name}', 'ENDPOINT': server.endpoint, 'REGION': 'us-east-1',
                   'ACCESS_KEY_ID': key, 'SECRET_ACCESS_KEY': key}
        self.env.update({f'OPENDAL_{name}': value for name, value in options.items()})
        return True

    def init(self):
        self.env.update(RUSTIC_REPOSITORY=str(self.repository), RUSTIC_PASSWORD=SECRET)
        run([self.program, 'init'], self.env)

    def backup_command(self, day):
        # Without --force it takes a stream of the same name for unchanged, and stores yesterday's bytes.
        return [self.program, 'backup', '--force', '--stdin-filename', 'db.dump', '--tag', f'day{day}', '-']

    def restore_command(self, day):
        return [self.program, 'dump', '--filter-tags', f'day{day}', 'latest:/db.dump']

    def steps(self):
        forget = [self.program, 'forget', '--group-by', '', '--keep-last', '1', '--prune', '--instant-delete']
        return {**super().steps(), 'forget all but one, and prune': [forget]}


class Borg(Tool):
    name = 'borg'
    package = 'borg'

    def init(self):
        self.env.update(BORG_REPO=str(self.repository), BORG_PASSPHRASE=SECRET, BORG_BASE_DIR=str(self.work),
                        BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK='yes')
        run([self.program, 'init', '--encryption', 'repokey-blake2'], self.env)

    def backup_command(self, day):
        return [self.program, 'create', '--stdin-name', 'db.dump', f'::day{day}', '-']

    def restore_command(self, day):
        return [self.program, 'extract', '--stdout', f'::day{day}']

    def steps(self):
        return {'list': [[self.program, 'list']], 'check': [[self.program, 'check']],
                'check with data': [[self.program, 'check', '--verify-data']],
                'forget all but one, and prune': [[self.program, 'prune', '--keep-last', '1'], [self.program, 'compact']]}


class Borg3(Borg):
    """borg as its own documentation advises for more compression than its default."""
    name = 'borg zstd,3'

    @classmethod
    def find(cls, args):
        return shutil.which('borg')

    def backup_command(self, day):
        return [self.program, 'create', '--compression', 'zstd,3', '--stdin-name', 'db.dump', f'::day{day}', '-']


class Files(Tool):
    """One compressed file a day, which is what most people have."""
    is_peer = False

    def init(self):
        self.repository.mkdir()

    def path(self, day):
        return self.repository / f'day{day}'

    def backup(self, day, path):
        os.sync()
        with open(self.path(day), 'wb') as out:
            started = time.perf_counter()
            with open(path, 'rb') as source:
                process = subprocess.Popen(self.compress(), stdin=source, stdout=out, env=self.env)
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - started
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise Failed(f'{self.name}: exit {process.returncode}')
        return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)

    def steps(self):
        return {}


class Gzip(Files):
    name = 'gzip'
    package = 'gzip'

    def compress(self):
        return [self.program, '-c']

    def restore_command(self, day):
        return [self.program, '-dc', self.path(day)]


class Zstd(Gzip):
    name = 'zstd'
    package = 'zstd'

    def compress(self):
        return [self.program, '-q', '-c', '-T2']


TOOLS = [Dedump, Restic, Rustic, Borg, Borg3, Zstd, Gzip]


class Series:
    """The inputs: one file a day, and the BLAKE2 of each."""

    def __init__(self, name, paths):
        self.name, self.paths = name, paths
        self.bytes = [path.stat().st_size for path in paths]
        self.digests = [hash_of(path) for path in paths]


def hash_of(path):
    digest = hashlib.blake2b()
    with open(path, 'rb') as file:
        while piece := file.read(MIB):
            digest.update(piece)
    return digest.hexdigest()


def noise(args, work):
    """Random bytes, in which nobody can find anything twice."""
    path = Path(work) / 'noise'
    with open(path, 'wb') as file:
        for _ in range(args.size_mib):
            file.write(os.urandom(MIB))
    return Series('random bytes', [path])


class Bench:
    def __init__(self, args, work):
        self.args, self.work = args, Path(work)
        self.figures = {}           # (step, tool) -> [Cost]
        self.stored = {}            # (step, tool) -> bytes added

    def measure(self, step, tool, action, bytes_in=None):
        before = stored_bytes(tool.repository)
        warm(tool.repository)
        cost = action()
        self.figures.setdefault((step, tool.name), []).append(cost)
        added = stored_bytes(tool.repository) - before
        self.stored.setdefault((step, tool.name), []).append(added)
        say(f'  {step}: {tool.name}: {cost.wall:.2f} s, {cost.cpu:.2f} s of processor time, '
            f'{cost.peak / MIB:.0f} MiB, {added / MIB:+.2f} MiB')

    def series(self, series, tool_classes, round_number):
        folder = self.work / f'{series.name.replace(" ", "-")}-{round_number}'
        tools = []
        for tool_class, program in tool_classes:
            tool = tool_class(program, folder)
            tool.init()
            tools.append(tool)
        for day, path in enumerate(series.paths, 1):
            step = 'first backup' if day == 1 else f'day {day}'
            for tool in tools:
                self.measure(step, tool, lambda: tool.backup(day, path))
            if day == 1:
                for tool in tools:
                    self.measure('unchanged backup', tool, lambda: tool.backup('1again', path))
        last = len(series.paths)
        for step, day in [('restore of day 1', 1), (f'restore of day {last}', last)][:1 if last == 1 else 2]:
            for tool in tools:
                digest = hashlib.blake2b()
                tool.restore(day, digest)
                if digest.hexdigest() != series.digests[day - 1]:
                    raise Failed(f'{tool.name} does not give day {day} back as it was; its figures count for nothing')
                self.measure(step, tool, lambda: tool.restore(day))
        for step in ('list', 'check', 'check with data', 'forget all but one, and prune'):
            for tool in tools:
                commands = tool.steps().get(step)
                if commands:
                    self.measure(step, tool, lambda: tool.all(commands))
        for tool in tools:
            self.figures.setdefault(('stored at the end', tool.name), [])
            self.stored.setdefault(('stored at the end', tool.name), []).append(stored_bytes(tool.repository))
        shutil.rmtree(folder)

    def requests(self, series, tool_classes):
        """Counts what each step asks of an S3 server; prints the table."""
        server = Server(self.work / 'server', build_server(), build_front(), 0)
        counted = {}
        try:
            tools = []
            for tool_class, program in tool_classes:
                tool = tool_class(program, self.work / 's3')
                if tool.at_s3(server):
                    tool.init()
                    tools.append(tool)

            def count(step, tool, action):
                server.counts()
                action()
                counts = server.counts()
                parts = ' + '.join(str(counts[kind]) for kind in ('put', 'get', 'head', 'list', 'delete'))
                counted[step, tool.name] = f'{sum(counts[kind] for kind in ("put", "get", "head", "list", "delete"))} ({parts})'
                say(f'  {step}: {tool.name}: {counted[step, tool.name]} requests')

            for day, path in enumerate(series.paths[:2], 1):
                for tool in tools:
                    count('first backup' if day == 1 else 'day 2', tool, lambda: tool.backup(day, path))
                    if day == 1:
                        count('unchanged backup', tool, lambda: tool.backup('1again', path))
            for tool in tools:
                digest = hashlib.blake2b()
                count('restore of day 1', tool, lambda: tool.restore(1, digest))
                if digest.hexdigest() != series.digests[0]:
                    raise Failed(f'{tool.name} does not give day 1 back from the bucket as it was')
                for step, commands in tool.steps().items():
                    try:
                        count(step, tool, lambda: tool.all(commands))
                    except Failed as why:
                        # restic does not find all of its packs in what this server lists.
                        say(f'  {why}')
                        counted[step, tool.name] = 'fails here'
        finally:
            server.stop()
        names = [tool.name for tool in tools]
        print(f'\n## {series.name} at S3: requests, (PUT + GET + HEAD + LIST + DELETE)\n\n| step | ' + ' | '.join(names) + ' |')
        print('|---|' + '---|' * len(names))
        for step in dict.fromkeys(step for step, _ in counted):
            print(f'| {step} | ' + ' | '.join(counted.get((step, name), '') for name in names) + ' |')

    def table(self, series, tools):
        names = [tool.name for tool, _ in tools]
        peers = [tool.name for tool, _ in tools if tool.is_peer]
        days = len(series.paths)
        print(f'\n## {series.name}: {days} {"day" if days == 1 else "days"}, the first of {series.bytes[0] / MIB:.0f} MiB\n')
        for what, of, unit in [('Seconds', lambda cost: cost.wall, '{:.2f}'),
                               ('Seconds of processor time', lambda cost: cost.cpu, '{:.2f}'),
                               ('Peak memory, MiB', lambda cost: cost.peak / MIB, '{:.0f}')]:
            self.part(what, names, peers, unit, {key: median(map(of, costs)) for key, costs in self.figures.items() if costs})
        added = {key: median(values) / MIB for key, values in self.stored.items()
                 if key[0].startswith(('first', 'unchanged', 'day', 'stored'))}
        self.part('MiB added', names, peers, '{:.2f}', added)
        self.figures, self.stored = {}, {}

    def part(self, what, names, peers, unit, values):
        print(f'\n| {what} | ' + ' | '.join(names) + ' | best peer / dedump |')
        print('|---|' + '---|' * (len(names) + 1))
        for step in dict.fromkeys(step for step, _ in values):
            row = [values.get((step, name)) for name in names]
            best = min((values[(step, name)] for name in peers if (step, name) in values), default=None)
            ours = values.get((step, 'dedump'))
            ratio = f'{best / ours:.2f}' if best and ours and ours > 0 else ''
            cells = [unit.format(value) if value is not None else '' for value in row]
            print(f'| {step} | ' + ' | '.join(cells) + f' | {ratio} |')


def find_series(args, work):
    folder = args.series
    if folder is None and any(name in FORMATS for name in args.formats):
        folder = Path(work) / 'series'
        wanted = ','.join(name for name in args.formats if name in ('sql', 'c0'))
        base_days = ','.join(str(day) for day in range(1, args.days + 1)) if 'base' in args.formats else ''
        command = [sys.executable, GENERATOR, 'all', '--dir', folder, '--size-mib', args.size_mib, '--days', args.days,
                   '--formats', wanted or 'sql', '--base-days', base_days, '--redis-days', '0']
        subprocess.run([str(word) for word in command], check=True, stdout=sys.stderr)
    for name in (name for name in args.formats if name in FORMATS):
        paths = [Path(folder) / FORMATS[name].format(day) for day in range(1, args.days + 1)]
        paths = [path for path in paths if path.exists()]
        if paths:
            yield Series({'sql': 'plain dumps', 'c0': 'pg_dump -Fc -Z0', 'base': 'base backups as tar'}[name], paths)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--small', action='store_true')
    parser.add_argument('--series', type=Path)
    parser.add_argument('--size-mib', type=int)
    parser.add_argument('--days', type=int)
    parser.add_argument('--rounds', type=int)
    parser.add_argument('--formats', default='sql,c0,base,noise', type=lambda text: text.split(','))
    parser.add_argument('--tools', type=lambda text: text.split(','))
    parser.add_argument('--work', default=None, help='a folder for repositories and series')
    parser.add_argument('--s3', action='store_true', help='count requests, too')
    parser.add_argument('--dedump', default=str(ROOT / 'target' / 'release' / 'dedump'))
    args = parser.parse_args()
    args.size_mib = args.size_mib or (64 if args.small else 1024)
    args.days = args.days or (3 if args.small else 14)
    args.rounds = args.rounds or (1 if args.small else 3)
    wanted = [tool for tool in TOOLS if not args.tools or tool.name in args.tools]
    packages = sorted({tool.package for tool in wanted if tool.package})
    if packages:
        place = subprocess.run([HERE / 'install', *packages], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        os.environ['PATH'] = f'{place}:{os.environ["PATH"]}'
    tools = []
    for tool in wanted:
        program = tool.find(args)
        if program:
            tools.append((tool, program))
        else:
            say(f'{tool.name} is not there and is left out')
    with tempfile.TemporaryDirectory(prefix='dedump-peers-', dir=args.work) as work:
        # The server of the series runs as another user.
        os.chmod(work, 0o755)
        for tool, program in tools:
            say(f'{tool.name}: {tool(program, Path(work) / "versions").version()}')
        bench = Bench(args, work)
        inputs = list(find_series(args, work)) + ([noise(args, work)] if 'noise' in args.formats else [])
        if args.s3 and inputs:
            bench.requests(inputs[0], tools)
        for series in inputs:
            for round_number in range(1, args.rounds + 1):
                say(f'{series.name}, round {round_number}')
                bench.series(series, tools, round_number)
            bench.table(series, tools)


if __name__ == '__main__':
    try:
        main()
    except Failed as why:
        sys.exit(f'peers.py: {why}')
