"""Settings: where they come from, which wins, and one line for each that is wrong."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from nanochat.config import Config, Model, Secrets, endpoint_of, find_config, load, sections
from nanochat.config.loading import parse
from nanochat.errors import SettingError

SHIPPED = Path(__file__).parents[1] / "config" / "nanochat.toml"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of nanochat with an empty config directory; its package directory is `nanochat`."""
    root = tmp_path / "checkout"
    (root / "config").mkdir(parents=True)
    (root / "nanochat").mkdir()
    (root / "pyproject.toml").write_text('[project]\nname = "nanochat"\n')
    return root


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The platform's directories are the test's own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg-config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg-data"))


def read(text: str, **environ: str) -> Config:
    return parse(text, Path("/etc/n.toml"), environ)


def refusal(text: str, **environ: str) -> str:
    with pytest.raises(SettingError) as caught:
        read(text, **environ)
    return str(caught.value)


# --- the values ---


def test_every_key_has_a_default() -> None:
    """No file and no environment are fine."""
    assert read("") == Config()


def test_a_file_changes_what_it_names() -> None:
    """Everything else keeps its default."""
    config = read("owner = [7]\n[limits]\nwaiting = 3\nusd_per_day = 2\n[telegram]\nallow = [1, 2]")
    assert (config.owner, config.limits.waiting, config.limits.usd_per_day) == ((7,), 3, 2.0)
    assert config.telegram.allow == (1, 2)
    assert config.context == Config().context


def test_jobs() -> None:
    """A job's recipients may be one key or several, and TOML's own date-times are times."""
    config = read(
        '[[cron.jobs]]\nid = "a"\nat = 2026-12-24T18:00:00\nkind = "text"\ntext = "x"\ndeliver_to = "telegram:1"\n'
        '[[cron.jobs]]\nid = "b"\nevery = "2h"\nprompt = "x"\ndeliver_to = ["cli:a", "cli:b"]\n'
    )
    one, two = config.cron.jobs
    assert (one.at, one.recipients) == ("2026-12-24T18:00:00", ("telegram:1",))
    assert two.recipients == ("cli:a", "cli:b")


@pytest.mark.parametrize(
    ("name", "text", "key", "value"),
    [
        ("NANOCHAT_TIMEZONE", "Europe/Berlin", "timezone", "Europe/Berlin"),
        ("NANOCHAT_CONTEXT__BUDGET_TOKENS", "900", "context.budget_tokens", 900),
        ("NANOCHAT_MODEL__TIMEOUT_S", "1.5", "model.timeout_s", 1.5),
        ("NANOCHAT_TELEGRAM__ENABLED", "true", "telegram.enabled", True),
        ("NANOCHAT_TELEGRAM__ALLOW", "1, -2", "telegram.allow", (1, -2)),
        ("NANOCHAT_OWNER", "[5]", "owner", (5,)),
        ("NANOCHAT_OWNER", "", "owner", ()),
        ("NANOCHAT_MODEL__FALLBACK", "a,b", "model.fallback", ("a", "b")),
        ("NANOCHAT_MODEL__FALLBACK", '["a,b"]', "model.fallback", ("a,b",)),
        ("NANOCHAT_MODEL__NAME", "123", "model.name", "123"),
        ("NANOCHAT_TELEGRAM__BASE_URL", "http://127.0.0.1:1", "telegram.base_url", "http://127.0.0.1:1"),
    ],
)
def test_the_environment_wins(name: str, text: str, key: str, value: object) -> None:
    """Over the file, for every type; lists are JSON or have commas."""
    found: object = read('timezone = "UTC"\nowner = [1]\n[model]\nname = "x"', **{name: text})
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value


def test_jobs_from_the_environment() -> None:
    """They are JSON."""
    config = read("", NANOCHAT_CRON__JOBS='[{"id": "a", "every": "1m", "prompt": "x"}]')
    assert config.cron.jobs[0].every == "1m"


def test_other_variables_are_no_settings() -> None:
    """Secrets, the places, and what other programs have."""
    environ = {"NANOCHAT_CONFIG": "x", "NANOCHAT_DATA_DIR": "x", "NANOCHAT_HTTP_TOKEN": "x", "NANOCHAT_MODEL_KEY": "x"}
    assert read("", **environ, _NANOCHAT_COMPLETE="bash_source", HOME="/root") == Config()


# --- what is wrong ---

JOB = '[[cron.jobs]]\nid = "a"\n'

WRONG = {
    "unknown": ("budget = 1", "budget is not a setting"),
    "typo": ("[limits]\nwaitin = 1", "limits.waitin is not a setting; did you mean waiting?"),
    "typo in a section": ("[limit]\nwaiting = 1", "limit is not a setting"),
    "unknown section": ("[modle]\nname = 'x'", "modle is not a setting; did you mean model?"),
    "a key": (
        "[model]\napi_key = 'x'",
        "model.api_key is not a setting: secrets come from the environment only, this one as ANTHROPIC_API_KEY, or"
        " NANOCHAT_MODEL_KEY with a base_url",
    ),
    "a token": ("[telegram]\nbot_token = 'x'", "this one as TELEGRAM_BOT_TOKEN"),
    "a key of no section": ("anthropic_api_key = 'x'", "this one as ANTHROPIC_API_KEY"),
    "no key": ("[model]\nmax_token = 1", "model.max_token is not a setting; did you mean max_tokens?"),
    "wrong section": ("budget_tokens = 1", "budget_tokens is not a setting; did you mean context.budget_tokens?"),
    "typo in a job": (JOB + 'evry = "1m"', "cron.jobs[0].evry is not a setting; did you mean every?"),
    "type": ('[limits]\nwaiting = "many"', "limits.waiting is 'many': it takes a whole number from 0"),
    "truth for number": ("[http]\nport = true", "http.port is true: it takes a whole number from 0 up to 65535"),
    "fraction": ("[limits]\nwaiting = 1.5", "limits.waiting is 1.5: it takes a whole number from 0"),
    "too small": ("[context]\nbudget_tokens = 0", "context.budget_tokens is 0: it takes a whole number from 1"),
    "too big": ("[http]\nport = 70000", "http.port is 70000: it takes a whole number from 0 up to 65535"),
    "longer than a life": (
        "[sessions]\narchive_after_days = 40000",
        "sessions.archive_after_days is 40000: it takes a whole number from 0 up to 36500",
    ),
    "not a number": ("[limits]\nusd_per_day = nan", "limits.usd_per_day is nan: it takes a number from 0"),
    "share": ("[context]\nwarn_at = 2", "context.warn_at is 2: it takes a number above 0 up to 1"),
    "choice": ('[telegram]\ngroups = "some"', 'telegram.groups is \'some\': it takes one of "mention", "all", "off"'),
    "list": ('[telegram]\nallow = ["me"]', "telegram.allow is ['me']: it takes a list, each a whole number"),
    "no table": ("telegram = 3", "telegram is 3: it takes a table, [telegram]"),
    "no tables": ("[cron]\njobs = 3", "cron.jobs is 3: it takes tables, [[cron.jobs]]"),
    "zone": ('timezone = "Mars/Olympus"', "timezone is 'Mars/Olympus': it takes the name of a time zone"),
    "zone as a path": ('timezone = "../../etc/passwd"', "timezone is '../../etc/passwd': it takes the name"),
    "zone as a directory": ('timezone = "Europe"', "timezone is 'Europe': it takes the name of a time zone"),
    "address": ('[model]\nbase_url = "example.org"', "model.base_url is 'example.org': it takes an address"),
    "no model": ('[model]\nname = ""', "model.name is empty: it takes the id of a model"),
    "both prompts": ('[model]\nsystem_prompt = "a"\nsystem_prompt_file = "b"', "only one of them can"),
    "job without id": ('[[cron.jobs]]\nevery = "1m"', "cron.jobs[0].id is missing: it takes text"),
    "job without time": (JOB + 'prompt = "x"', "job 'a' takes exactly one of cron, every and at"),
    "job with two times": (JOB + 'prompt = "x"\nevery = "1m"\ncron = "* * * * *"', "exactly one of cron, every and at"),
    "job's distance": (JOB + 'prompt = "x"\nevery = "soon"', "cron.jobs[0].every is 'soon': it takes a distance"),
    "job's time": (JOB + 'prompt = "x"\nat = "tomorrow"', "cron.jobs[0].at is 'tomorrow': it takes a time"),
    "job's missed": (JOB + 'prompt = "x"\nevery = "1m"\nmissed = "never"', "missed is 'never': it takes once, skip"),
    "job's zone": (JOB + 'prompt = "x"\nevery = "1m"\ntimezone = "X"', "cron.jobs[0].timezone is 'X'"),
    "prompt without one": (JOB + 'every = "1m"', "cron.jobs[0].prompt is missing: a job of kind 'prompt' takes it"),
    "text without one": (JOB + 'every = "1m"\nkind = "text"', "cron.jobs[0].text is missing"),
    "summary of nothing": (JOB + 'every = "1m"\nkind = "summary"', "cron.jobs[0].sources is missing"),
    "source": (JOB + 'every = "1m"\nkind = "summary"\nsources = ["all"]', "cron.jobs[0].sources has 'all'"),
    "recipient": (JOB + 'every = "1m"\nprompt = "x"\ndeliver_to = "me"', "cron.jobs[0].deliver_to: 'me' is not a"),
    "job's id": ('[[cron.jobs]]\nid = " "\nevery = "1m"\nprompt = "x"', "cron.jobs[0].id is ' '"),
    "same id": ((JOB + 'every = "1m"\nprompt = "x"\n') * 2, "cron.jobs[1].id is 'a': another job has this id"),
    "not TOML": ("a = 1\nb", "this is not TOML: "),
}


@pytest.mark.parametrize(("text", "words"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_setting_is_one_line(text: str, words: str) -> None:
    """It names the file and the key, what the key got, and what it takes."""
    line = refusal(text)
    assert line.startswith("/etc/n.toml: ")
    assert words in line
    assert "\n" not in line


def test_a_place_in_the_file_is_named() -> None:
    """Of what is no TOML, the line is told."""
    assert "line 2" in refusal("a = 1\nb = \nc = 3")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("NANOCHAT_HTP__PORT", "1", "NANOCHAT_HTP__PORT is not a setting; did you mean NANOCHAT_HTTP__PORT?"),
        ("NANOCHAT_HTTP__PORT", "x", "NANOCHAT_HTTP__PORT (http.port) is 'x': it takes a whole number"),
        ("NANOCHAT_TELEGRAM__ALLOW", "1,me", "NANOCHAT_TELEGRAM__ALLOW (telegram.allow) is ['1', 'me']"),
        ("NANOCHAT_TELEGRAM__ALLOW", "[1", "this is not JSON"),
        ("NANOCHAT_TIMEZONE", "Mars", "NANOCHAT_TIMEZONE (timezone) is 'Mars'"),
        ("NANOCHAT_CRON__JOBS", "x", "it takes tables"),
        ("NANOCHAT_MODEL__SYSTEM_PROMPT_FILE", "f", "only one of them can"),
    ],
)
def test_a_wrong_variable_is_one_line(name: str, text: str, words: str) -> None:
    """It names the variable instead of the file."""
    line = refusal('[model]\nsystem_prompt = "x"', **{name: text})
    assert line.startswith("environment: ")
    assert words in line


# --- the places ---


def test_the_option_wins_over_the_variable_over_the_checkout_over_the_user(tmp_path: Path, checkout: Path) -> None:
    """Each place counts when those before it have no file."""
    option, variable = tmp_path / "option.toml", tmp_path / "variable.toml"
    ours, user = checkout / "config" / "nanochat.toml", tmp_path / "xdg-config" / "nanochat" / "nanochat.toml"
    user.parent.mkdir(parents=True)
    for path in (option, variable, ours, user):
        path.touch()
    package = checkout / "nanochat"
    environ = {"NANOCHAT_CONFIG": str(variable)}
    assert find_config(option, environ, package_dir=package) == option
    assert find_config(None, environ, package_dir=package) == variable
    assert find_config(None, {}, package_dir=package) == ours
    ours.unlink()
    assert find_config(None, {}, package_dir=package) == user
    user.unlink()
    assert find_config(None, {}, package_dir=package) is None


def test_the_working_directory_does_not_count(tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cloned repository must not be able to redirect a key."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "nanochat.toml").write_text('[model]\nbase_url = "http://evil"')
    (tmp_path / "nanochat.toml").write_text('[model]\nbase_url = "http://evil"')
    monkeypatch.chdir(tmp_path)
    assert load(None, None, {}, package_dir=checkout / "nanochat").model.base_url == ""


def test_somebody_elses_checkout_does_not_count(tmp_path: Path, checkout: Path) -> None:
    """Only a directory that is nanochat's own project."""
    (checkout / "config" / "nanochat.toml").write_text("owner = [1]")
    (checkout / "pyproject.toml").write_text('[project]\nname = "other"\n')
    config = load(None, None, {}, package_dir=checkout / "nanochat")
    assert config.owner == ()
    assert config.data_dir == str(tmp_path / "xdg-data" / "nanochat")


@pytest.mark.parametrize("environ", [{}, {"NANOCHAT_CONFIG": "/no/such.toml"}], ids=["option", "variable"])
def test_a_named_file_must_exist(environ: dict[str, str]) -> None:
    """Who names a file does not want the defaults."""
    with pytest.raises(SettingError, match=r"/no/such\.toml: there is no such settings file"):
        load(None if environ else Path("/no/such.toml"), None, environ)


def test_the_data_directory(tmp_path: Path, checkout: Path) -> None:
    """The option, the variable, the file (relative to its checkout, or to itself), the checkout's own."""
    package, ours, other = checkout / "nanochat", checkout / "config" / "nanochat.toml", tmp_path / "n.toml"
    environ = {"NANOCHAT_DATA_DIR": "/var/two"}
    assert load(None, None, {}, package_dir=package).data_dir == str(checkout / "data")
    ours.write_text('data_dir = "three"')
    other.write_text('data_dir = "four"')
    assert load(None, None, {}, package_dir=package).data_dir == str(checkout / "three")
    assert load(other, None, {}, package_dir=package).data_dir == str(tmp_path / "four")
    assert load(other, None, environ, package_dir=package).data_dir == "/var/two"
    assert load(other, Path("/var/one"), environ, package_dir=package).data_dir == "/var/one"


def test_the_system_prompt_is_read_from_its_file(tmp_path: Path) -> None:
    """Beside the settings file."""
    (tmp_path / "n.toml").write_text('[model]\nsystem_prompt_file = "prompt.md"')
    (tmp_path / "prompt.md").write_text("Be brief.\n", encoding="utf-8")
    assert load(tmp_path / "n.toml", None, {}).model.system_prompt == "Be brief."


def test_a_prompt_file_that_is_not_there(tmp_path: Path) -> None:
    """One line names it."""
    (tmp_path / "n.toml").write_text('[model]\nsystem_prompt_file = "prompt.md"')
    with pytest.raises(SettingError, match=r"prompt\.md: No such file"):
        load(tmp_path / "n.toml", None, {})


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    """One line says so."""
    (tmp_path / "n.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(SettingError, match="this is not UTF-8 text, from byte 5 on"):
        load(tmp_path / "n.toml", None, {})


def test_the_timezone_is_the_systems() -> None:
    """Unless one is set, it is what TZ or the system says, by its name."""
    assert load(None, None, {"TZ": "Europe/Berlin"}).timezone == "Europe/Berlin"
    assert load(None, None, {"TZ": "nonsense"}).timezone


# --- secrets ---


def test_secrets_are_not_in_repr() -> None:
    """Neither in that of an endpoint."""
    secrets = Secrets.load({"ANTHROPIC_API_KEY": "hush", "TELEGRAM_BOT_TOKEN": "hush", "NANOCHAT_MODEL_KEY": "hush"})
    assert "hush" not in repr(secrets)
    assert "hush" not in repr(endpoint_of(Model(base_url="http://x"), secrets))
    assert "hush" not in repr(endpoint_of(Model(), secrets))


def test_a_systemd_credential_counts(tmp_path: Path) -> None:
    """Where the environment has no value of its own."""
    (tmp_path / "anthropic_api_key").write_text("from the file\n")
    (tmp_path / "telegram_bot_token").write_text("from the file\n")
    secrets = Secrets.load({"CREDENTIALS_DIRECTORY": str(tmp_path), "TELEGRAM_BOT_TOKEN": "from the environment"})
    assert (secrets.anthropic_key, secrets.telegram_token) == ("from the file", "from the environment")
    assert secrets.http_token == ""


def test_a_credential_that_cannot_be_read(tmp_path: Path) -> None:
    """It was meant: going on without it would be a surprise."""
    (tmp_path / "anthropic_api_key").mkdir()
    with pytest.raises(SettingError, match="anthropic_api_key: this credential cannot be read"):
        Secrets.load({"CREDENTIALS_DIRECTORY": str(tmp_path)})


@pytest.mark.parametrize(
    ("model", "environ", "endpoint"),
    [
        (Model(), {}, None),
        (Model(), {"ANTHROPIC_API_KEY": "a"}, ("", "bearer", "a")),
        (Model(), {"ANTHROPIC_API_KEY": "a", "ANTHROPIC_BASE_URL": "http://b"}, ("http://b", "bearer", "a")),
        (Model(), {"ANTHROPIC_BASE_URL": "http://b"}, None),
        (Model(base_url="http://c"), {"ANTHROPIC_API_KEY": "a"}, ("http://c", "bearer", "")),
        (
            Model(base_url="http://c"),
            {"ANTHROPIC_API_KEY": "a", "NANOCHAT_MODEL_KEY": "m"},
            ("http://c", "bearer", "m"),
        ),
        (Model(base_url="http://c", auth="x-api-key"), {"NANOCHAT_MODEL_KEY": "m"}, ("http://c", "x-api-key", "m")),
        (Model(), {"NANOCHAT_MODEL_KEY": "m"}, None),
        (Model(provider="offline"), {"ANTHROPIC_API_KEY": "a"}, None),
    ],
)
def test_which_key_goes_where(model: Model, environ: dict[str, str], endpoint: tuple[str, str, str] | None) -> None:
    """Anthropic's key never goes to an address from a settings file."""
    found = endpoint_of(model, Secrets.load(environ))
    assert (found and (found.base_url, found.auth, found.key)) == endpoint


def test_a_provider_without_its_key() -> None:
    """Who spells it out does not want the demo."""
    with pytest.raises(SettingError, match=r"set ANTHROPIC_API_KEY or model\.base_url"):
        endpoint_of(Model(provider="anthropic"), Secrets())


# --- the documentation ---


def test_every_field_has_a_docstring() -> None:
    """No setting without its meaning."""
    tree = ast.parse(Path(sections.__file__).read_text())
    for section in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        for field, after in zip(section.body, [*section.body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign):
                assert isinstance(after, ast.Expr), f"{section.name}: {ast.unparse(field)}"


def test_the_shipped_file_changes_nothing() -> None:
    """As it is, it only shows."""
    assert parse(SHIPPED.read_text(), SHIPPED, {}) == Config()


def test_the_shipped_file_shows_every_key_with_its_default() -> None:
    """With the single # taken away, it is the defaults, and names every key."""
    text, example = re.sub(r"^#(?=[\w\[])", "", SHIPPED.read_text(), flags=re.MULTILINE).split("[[cron.jobs]]")
    assert parse(text, SHIPPED, {}) == Config()
    shown = tomllib.loads(text)
    for top in msgspec.structs.fields(Config):
        if top.name == "cron":
            continue
        assert top.name in shown
        if isinstance(top.type, type) and issubclass(top.type, msgspec.Struct):
            assert set(shown[top.name]) == {field.name for field in msgspec.structs.fields(top.type)}
    assert set(tomllib.loads(example)) == {field.name for field in msgspec.structs.fields(sections.Job)}


def test_the_shipped_example_of_a_job_works() -> None:
    """With what it does not need left out."""
    _, example = re.sub(r"^#(?=[\w\[])", "", SHIPPED.read_text(), flags=re.MULTILINE).split("[[cron.jobs]]")
    (job,) = parse("[[cron.jobs]]" + example, SHIPPED, {}).cron.jobs
    assert (job.id, job.kind) == ("morning", "summary")
