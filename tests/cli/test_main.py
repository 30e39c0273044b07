import subprocess
import sys

import pytest

import saddlepoint
from saddlepoint.cli.main import main


@pytest.mark.parametrize("arguments", [["--help"], ["attack", "--help"], ["--version"], []])
def test_help_needs_nothing_heavy(arguments):
    code = (
        "import sys; from saddlepoint.cli.main import main; "
        f"code = main({arguments}); heavy = {{'torch', 'PIL', 'rich', 'numpy', 'jaxtyping'}} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "saddlepoint" in done.stdout


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"saddlepoint {saddlepoint.__version__}\n"


def test_without_a_command_it_shows_a_first_session(capsys):
    assert main([]) == 0
    told = capsys.readouterr().out
    commands = [line.split("   ")[0].split() for line in (line.strip() for line in told.splitlines())]
    shown = [
        words[1:] for words in commands if words[:1] == ["saddlepoint"] and words[1:2] in (["evaluate"], ["report"])
    ]
    assert len(shown) == 2
    for words in shown:  # they can be typed as they stand
        assert main([*words, "--help"]) == 0
    assert main(["--help"]) == 0
    assert "attack photographs, or a data set" in capsys.readouterr().out


def test_the_package_is_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "saddlepoint", "--version"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"saddlepoint {saddlepoint.__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["atack"], "saddlepoint: argument COMMAND: invalid choice: 'atack' (choose from"),
        (
            ["attack", "--normm", "l2"],
            "saddlepoint: unknown argument '--normm'; did you mean --norm? (see saddlepoint attack --help)",
        ),
        (["attack", "--norm", "l3"], "saddlepoint: argument --norm: invalid choice: 'l3'"),
        (["attack", "--eps", "2/0"], "argument --eps: '2/0' given; expected a number ≥ 0 or a fraction, such as 0.1"),
        (["attack", "--eps=-1"], "argument --eps: '-1' given; expected a number ≥ 0"),
        (["attack", "--eps", "nan"], "argument --eps: 'nan' given; expected a number ≥ 0"),
        (["attack", "--eps", "1e999"], "argument --eps: '1e999' given; expected a number ≥ 0"),
        (["attack", "--steps", "0"], "argument --steps: '0' given; expected a whole number ≥ 1"),
        (["attack", "--seed", "-1"], "argument --seed: "),
        (["attack", "--resize", "1.5"], "argument --resize: '1.5' given; expected a whole number ≥ 1"),
    ],
)
def test_what_cannot_be_parsed_is_one_line(arguments, said, capsys):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


def test_an_interruption_leaves_no_traceback(monkeypatch, capsys):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("saddlepoint.cli.attack.flags._run", interrupt)
    assert main(["attack"]) == 130
    assert capsys.readouterr().err == "saddlepoint: interrupted\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_a_shell_completes_every_command(shell, capsys):
    assert main(["completion", shell]) == 0
    told = capsys.readouterr().out
    assert all(command in told for command in ("evaluate", "certify", "verify", "completion"))


def test_completion_without_its_package_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert "pip install 'saddlepoint[all]'" in capsys.readouterr().err
