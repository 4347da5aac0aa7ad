"""Passes and rules of other packages: a real distribution on the path, used by name everywhere."""

from __future__ import annotations

import onnx
import pytest
import tersor
from tersor.driver.cli import main
from tersor.driver.passes import resolve
from tersor.driver.plugins import PluginWarning
from tersor.ir import UsageError


def test_a_pass_of_a_plug_in_works_by_name_with_options_in_python(plugin, network):
    result = tersor.apply(network, 'my-rename(to="a", times=3)')
    assert result.model.graph.name == "aaa"
    assert str(result.steps[0].done) == "my-rename(to='a', times=3)"


def test_a_pipeline_with_a_plug_in_reads_back_as_it_prints(plugin):
    passes = resolve("simplify, my-rename(to='x, (y)'), pool-rule")
    assert resolve(",".join(str(p) for p in passes)) == passes


def test_rules_of_a_plug_in_are_a_pass(plugin, network):
    result = tersor.apply(network, "tiny-rules", "pool-rule")
    assert "GlobalAveragePool" not in [n.op for n in result.model.graph]
    assert result.steps[0].outcome.rules["pool_to_mean"].hits == 1
    assert result.steps[0].parity is not None
    assert result.steps[0].parity.passed


def test_a_plug_in_works_on_the_command_line(plugin, folder, capsys):
    methods = "tiny-rules,my-rename(to='z')"
    assert (
        main(["compress", str(folder / "net.onnx"), "-o", str(folder / "out"), "--methods", methods, "--runs", "0"])
        == 0
    )
    assert onnx.load(folder / "out/model.onnx").graph.name == "z"
    assert "my-rename(to='z')" in capsys.readouterr().out


def test_an_unknown_option_of_a_plug_in_is_named(plugin, network):
    with pytest.raises(UsageError, match="no option 'too'"):
        tersor.apply(network, "my-rename(too=1)")


def test_passes_lists_plug_ins_with_their_package_and_says_what_is_broken(plugin, capsys):
    assert main(["passes"]) == 0
    shown = capsys.readouterr().out
    assert "tiny-plugin 1.2" in shown
    assert "to='renamed', times=1" in shown
    assert "cannot be imported" in shown


def test_rules_of_plug_ins_can_be_explained_by_name(plugin, network, folder, capsys):
    answer = tersor.why("pool_to_mean", network, "*GlobalAveragePool*")
    assert str(answer).startswith("pool_to_mean fires at GlobalAveragePool")
    assert main(["explain", "relu_once", str(folder / "net.onnx")]) == 0
    assert "expected Relu, found Conv" in capsys.readouterr().out


def test_a_plug_in_that_cannot_be_imported_is_an_error_that_names_the_package_and_harms_nothing_else(plugin, network):
    with pytest.raises(UsageError, match=r"'gone' of tiny-plugin 1\.2 cannot be imported") as found:
        tersor.apply(network, "gone")
    assert "tiny_plugin_that_is_not_there" in str(found.value)
    tersor.apply(network, "simplify")


def test_a_plug_in_that_is_no_pass_is_an_error_that_names_the_package(plugin, network):
    with pytest.raises(UsageError, match=r"'wrong-kind' of tiny-plugin 1\.2 is not a pass"):
        tersor.apply(network, "wrong-kind")


def test_a_name_that_two_packages_claim_is_an_error_that_names_both(plugin, distribution, network):
    distribution(plugin, "other-plugin", "[tersor.passes]\nmy-rename = tiny_plugin:Rename2\n")
    with pytest.raises(UsageError, match="several packages have a pass called 'my-rename'") as found:
        tersor.apply(network, "my-rename")
    assert "tiny-plugin 1.2" in str(found.value)
    assert "other-plugin 1.2" in str(found.value)


def test_a_built_in_pass_cannot_be_replaced_and_the_attempt_is_a_warning(plugin, distribution, network, folder, capsys):
    distribution(plugin, "bold-plugin", "[tersor.passes]\nsimplify = tiny_plugin:Rename\n")
    with pytest.warns(PluginWarning, match="bold-plugin 1.2 registers a pass under the built-in name 'simplify'"):
        result = tersor.apply(network, "simplify")
    assert type(result.steps[0].done) is tersor.Simplify
    main(["simplify", str(folder / "net.onnx"), "-o", str(folder / "s.onnx")])
    assert "warning: bold-plugin 1.2" in capsys.readouterr().err


def test_an_unknown_pass_is_an_error_with_the_closest_name(plugin, network):
    with pytest.raises(UsageError, match="did you mean 'tiny-rules'"):
        tersor.apply(network, "tiny-rule")
