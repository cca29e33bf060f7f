"""build.devel, build.optimized and build.embedded as a person types them, on a real Docker Engine.

The Dockerfiles are small stand-ins that end in seconds: what is tested is what the tasks do around the
build. What the real ones make is tested with the upstream stand-in.
"""

from __future__ import annotations

import os
import subprocess

from tests.helpers.docker_builds import Project, docker, shown_command


def images_of(host: str) -> list[str]:
    told = docker(host, "images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}")
    return sorted(told.split("\n")) if told else []


def test_devel_then_optimized(project: Project) -> None:
    done = project.run("build.devel", "build.optimized")
    devel, optimized = done.stdout.splitlines()
    assert devel.startswith(f"devel image: {project.user}/tensorflow-serving-devel:2.20.0 (")
    assert optimized.startswith(f"optimized image: {project.user}/tensorflow-serving:2.20.0 (")
    assert "--config=nativeopt, avx2 fma" in optimized
    assert "memory: " in done.stderr
    assert "disk: " in done.stderr
    labels = project.labels("tensorflow-serving")
    ours = "io.tensorflow-serving-suite."
    assert labels[f"{ours}kind"] == "optimized"
    assert labels[f"{ours}tag"] == "2.20.0"
    assert labels[f"{ours}build-options"] == "--config=nativeopt"
    assert labels[f"{ours}instruction-sets"] == "avx2 fma"
    assert project.labels("tensorflow-serving-devel")[f"{ours}kind"] == "devel"
    assert "fetching https://github.com/tensorflow/serving.git at 2.20.0" in project.log("devel")
    assert "[1 / 2] Compiling one.cc" in project.log("devel")


def test_what_is_there_for_the_same_inputs_is_not_built_again(project: Project) -> None:
    project.run("build.devel", "build.optimized")
    first = project.image("tensorflow-serving-devel"), project.image("tensorflow-serving")
    again = project.run("build.devel", "build.optimized", INVOKE_BUILD_MEMORY_MB="5000")
    assert again.stdout.count("already built from the same inputs") == 2
    assert "$ docker" not in again.stderr
    # The devel image is tens of gigabytes: who removed it still has what was made from it.
    docker(project.host, "image", "rm", "--no-prune", f"{project.user}/tensorflow-serving-devel:2.20.0")
    alone = project.run("build.optimized")
    assert "already built" in alone.stdout
    assert project.image("tensorflow-serving") == first[1]


def test_other_inputs_are_built_and_the_old_image_is_removed(project: Project) -> None:
    project.run("build.embedded", "--engine", "docker")
    first = project.image("tensorflow-serving-embedded")
    (project.folder / "docker" / "embedded" / "requirements.lock").write_text("one==2\n")
    done = project.run("build.embedded", "--engine", "docker")
    assert "was made from other inputs" in done.stderr
    assert project.image("tensorflow-serving-embedded") != first
    assert first not in docker(project.host, "images", "--all", "--quiet", "--no-trunc").split()


def test_an_old_image_that_is_in_use_is_known_by_its_name(project: Project) -> None:
    name = f"{project.user}/tensorflow-serving-embedded"
    project.run("build.embedded", "--engine", "docker")
    first = project.image("tensorflow-serving-embedded")
    user = docker(project.host, "create", first, "echo")
    # A user's own, without a name: it has inherited every label.
    (project.folder / "Dockerfile").write_text(f"FROM {name}:2.20.0\nENV MADE=here\n")
    inherited = docker(project.host, "build", "--quiet", str(project.folder))
    try:
        (project.folder / "docker" / "embedded" / "requirements.lock").write_text("one==2\n")
        project.run("build.embedded", "--engine", "docker")
        replaced = f"{name}:replaced-{first.removeprefix('sha256:')[:12]}"
        told = project.run("--dry", "teardown", "--images").stderr
        assert f"would remove images: {name}:2.20.0 (" in told
        assert replaced in told
        assert inherited.removeprefix("sha256:")[:12] not in told
    finally:
        docker(project.host, "rm", user)
    assert project.run("teardown", "--images").stdout.endswith(f"removed images: {name}:2.20.0, {replaced}\n")
    assert inherited in docker(project.host, "images", "--quiet", "--no-trunc").split()
    docker(project.host, "image", "rm", inherited)


def test_a_change_of_the_embedded_server_does_not_compile_serving_again(project: Project) -> None:
    project.run("build.devel")
    (project.folder / "docker" / "embedded" / "requirements.lock").write_text("one==2\n")
    assert "already built" in project.run("build.devel").stdout


def test_the_printed_line_does_the_same_when_pasted(project: Project) -> None:
    done = project.run("build.embedded", "--engine", "docker")
    line = shown_command(done.stderr).removeprefix("$ ")
    first = project.image("tensorflow-serving-embedded")
    environment = {**os.environ, "DOCKER_HOST": project.host, "DOCKER_BUILDKIT": "0"}
    subprocess.run(["sh", "-c", line], cwd=project.folder, env=environment, check=True, capture_output=True)
    assert project.image("tensorflow-serving-embedded") == first
    assert "already built" in project.run("build.embedded", "--engine", "docker").stdout


def test_dry_prints_and_does_nothing(project: Project) -> None:
    before = images_of(project.host)
    done = project.run("--dry", "build.devel", "build.embedded", "--engine", "docker")
    assert done.stdout == ""
    assert done.stderr.count("$ docker build --file docker/Dockerfile") == 2
    assert images_of(project.host) == before
    assert not (project.folder / ".state").exists()


def test_embedded_says_which_it_makes(project: Project) -> None:
    assert (
        "build.embedded makes the embedded server's image"
        in project.run("--dry", "build.embedded", "--engine", "docker").stderr
    )
    (project.folder / "docker" / "embedded" / "requirements.lock").write_text("")
    told = project.run("--dry", "build.embedded").stderr
    assert "build.embedded makes the local engine's virtual environment" in told
    assert "--engine docker makes the image" in told


def test_auto_takes_docker_for_optimized_only_where_devel_was_built(project: Project) -> None:
    told = project.run("--dry", "build.optimized", "--model", "x", code=1).stderr
    assert "engine: local (the Docker Engine has no" in told
    assert "invoke build.devel" in told
    project.run("build.devel")
    assert "engine: docker (it has" in project.run("--dry", "build.optimized").stderr


def test_optimized_without_devel_names_the_command_that_makes_it(project: Project) -> None:
    told = project.run("build.optimized", "--engine", "docker", code=1).stderr
    assert f"There is no image {project.user}/tensorflow-serving-devel:2.20.0" in told
    assert "Build it with `invoke build.devel`, which takes hours" in told


def test_without_a_daemon_devel_has_nothing_to_do(project: Project) -> None:
    gone = {"DOCKER_HOST": f"unix://{project.folder}/nothing.sock"}
    told = project.run("build.devel", **gone).stderr
    assert "engine: local (No Docker Engine answers at" in told
    assert "nothing to do on the local engine" in told
    told = project.run("build.devel", "--engine", "docker", code=1, **gone).stderr
    assert "error: No Docker Engine answers at" in told


def test_a_remote_daemon_is_refused(project: Project) -> None:
    told = project.run("build.devel", "--engine", "docker", code=1, DOCKER_HOST="tcp://192.0.2.1:2375").stderr
    assert "error: The Docker Engine at tcp://192.0.2.1:2375 may be on another machine" in told
