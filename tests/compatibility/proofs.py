"""Which test shows that an operation or a field works.

``folder/file.py::test`` names a test. ``docker WORDS`` names the beginning of a line that `tests/system` gives to dockerd and
to pyd. A field's proof may also be a regular expression that such a line has to match.
"""

from __future__ import annotations

__all__ = ["BUILD", "BUILD_NOTES", "BUILD_REASONS", "FIELDS", "REASONS", "SHOWN"]

REASONS = {
    "Swarm": "a daemon by itself, not a swarm",
    "Managed plugins": "drivers are installed as distributions, see `pyd plugin ls`",
    "POST /session": "no BuildKit",
    "GET /images/search": "an interface of Docker Hub, not of registries",
    "PUT /volumes/{name}": "cluster volumes are for swarms",
}
"""Why what is not served is not: by operation, or by section."""

_RUN, _LIFE, _FILES = "tests/system/test_run.py", "tests/system/test_survival.py", "tests/system/test_files.py"
_NAMES = "tests/system/test_names.py"
_LISTS = "tests/system/test_side_by_side_filters.py::test_a_filter_gives_the_same"
_WAITS = "tests/system/test_side_by_side_filters.py::test_waiting"
_VOLUMES, _RESOURCES, _PY = (
    "tests/system/test_volumes.py",
    "tests/system/test_resources.py",
    "tests/system/test_docker_py.py",
)

_BUILDS = "tests/system/test_builds.py"
_FLAGS, _ASKED = f"{_BUILDS}::test_flags_do_the_same", "tests/api/test_http_builds.py::test_what_is_asked"

BUILD = {
    "dockerfile": _FLAGS,
    "remote": f"{_BUILDS}::test_recipes_contexts_and_files_by_address",
    "t": f"{_BUILDS}::test_a_recipe_gives_the_same_as_with_dockerd",
    "target": _FLAGS,
    "buildargs": f"{_BUILDS}::test_a_recipe_gives_the_same_as_with_dockerd",
    "labels": f"{_BUILDS}::test_a_recipe_gives_the_same_as_with_dockerd",
    "platform": _ASKED,
    "cachefrom": f"{_BUILDS}::test_steps_of_named_images_alone",
    "nocache": f"{_BUILDS}::test_the_cache_knows_contents_and_modes_and_no_times",
    "pull": f"{_BUILDS}::test_a_base_image_is_pulled",
    "q": _FLAGS,
    "rm": _FLAGS,
    "forcerm": _FLAGS,
    **dict.fromkeys(("memory", "shmsize", "ulimits", "extrahosts", "networkmode", "cpushares"), _FLAGS),
    **dict.fromkeys(("memswap", "cpusetcpus", "cpusetmems", "cpuperiod", "cpuquota", "cgroupparent"), _ASKED),
    "squash": "tests/api/test_http_builds.py::test_what_cannot_be_meant",
    "securityopt": "tests/api/test_http_builds.py::test_what_cannot_be_meant",
    "outputs": "tests/api/test_http_system.py::test_no_buildkit",
    "version": "tests/api/test_http_system.py::test_no_buildkit",
}
"""Parts of the query of ``POST /build``."""

BUILD_REASONS = {
    "squash": "refused, as by a dockerd that is not experimental",
    "securityopt": "refused, as by every dockerd on Linux",
    "outputs": "refused: it takes BuildKit",
    "version": "1; 2 is refused: it takes BuildKit",
    "isolation": "ignored, as on every Linux",
    "session": "ignored: it belongs to BuildKit",
}
"""Those that are not honoured."""

BUILD_NOTES = (
    "What is told is what dockerd 20.10 tells, with these differences. Stages that the target does not need are not built.",
    "Base images that are not here are pulled before the first step is told. Steps that change the configuration alone have",
    "no container: the line `Running in` names none, and with `rm=0` none stays. A context that cannot be read is status 400,",
    "not 500. `--chmod` and here-documents work.",
)
"""What differs."""

SHOWN: dict[str, tuple[str, ...]] = {
    "POST /build": (f"{_BUILDS}::test_a_recipe_gives_the_same_as_with_dockerd", f"{_BUILDS}::test_flags_do_the_same"),
    "POST /build/prune": (f"{_BUILDS}::test_the_cache_is_forgotten_when_that_is_asked",),
    "GET /containers/json": (f"{_RUN}::test_ps_filters_and_formats", _LISTS, "docker ps"),
    "POST /containers/create": (f"{_RUN}::test_create_then_start_attached", "docker create"),
    "GET /containers/{id}/json": (f"{_RUN}::test_inspect_fields", "docker inspect"),
    "GET /containers/{id}/top": (f"{_RUN}::test_top_shows_the_processes", "docker top"),
    "GET /containers/{id}/logs": (f"{_RUN}::test_logs_tail_since_timestamps", "docker logs"),
    "GET /containers/{id}/changes": (f"{_FILES}::test_diff_and_commit", "docker diff"),
    "GET /containers/{id}/export": (f"{_FILES}::test_export_is_the_root_file_system",),
    "GET /containers/{id}/stats": (f"{_RESOURCES}::test_the_figures_of_a_busy_container", "docker stats"),
    "POST /containers/{id}/resize": (f"{_RUN}::test_a_shell_on_a_terminal",),
    "POST /containers/{id}/start": (f"{_RUN}::test_create_then_start_attached", "docker start"),
    "POST /containers/{id}/stop": (f"{_RUN}::test_stop_asks_first", "docker stop"),
    "POST /containers/{id}/restart": (f"{_RUN}::test_restart_keeps_files_and_adds_to_the_log", "docker restart"),
    "POST /containers/{id}/kill": (f"{_RUN}::test_kill_with_signals", "docker kill"),
    "POST /containers/{id}/update": (f"{_RESOURCES}::test_limits_change_while_it_runs", "docker update"),
    "POST /containers/{id}/rename": (f"{_RUN}::test_rename", "docker rename"),
    "POST /containers/{id}/pause": (f"{_RUN}::test_pause_and_unpause", "docker pause"),
    "POST /containers/{id}/unpause": (f"{_RUN}::test_pause_and_unpause", "docker unpause"),
    "POST /containers/{id}/attach": (f"{_RUN}::test_attach_passes_output_on_and_the_status", "docker attach"),
    "GET /containers/{id}/attach/ws": ("tests/system/test_websocket.py::test_a_shell_over_a_websocket",),
    "POST /containers/{id}/wait": (
        f"{_RUN}::test_wait_for_several",
        "docker wait",
        "tests/system/test_side_by_side_filters.py::test_waiting",
    ),
    "DELETE /containers/{id}": (f"{_RUN}::test_rm_refuses_what_runs", "docker rm"),
    "HEAD /containers/{id}/archive": (f"{_FILES}::test_files_directories_and_names",),
    "GET /containers/{id}/archive": (f"{_FILES}::test_a_tree_comes_out_and_goes_in_again", "docker cp ff:/d"),
    "PUT /containers/{id}/archive": (f"{_FILES}::test_archives_as_they_are", "docker cp {here}/bind"),
    "POST /containers/prune": ("tests/system/test_pyd_cli.py::test_prune",),
    "POST /containers/{id}/exec": (f"{_RUN}::test_exec_options", "docker exec"),
    "POST /exec/{id}/start": (f"{_RUN}::test_exec_status", "docker exec"),
    "POST /exec/{id}/resize": (f"{_RUN}::test_exec_on_a_terminal",),
    "GET /exec/{id}/json": (f"{_PY}::test_exec_run",),
    "GET /volumes": (f"{_VOLUMES}::test_create_list_inspect_remove", "docker volume ls", _LISTS),
    "POST /volumes/create": (f"{_VOLUMES}::test_create_list_inspect_remove", "docker volume create"),
    "GET /volumes/{name}": (f"{_VOLUMES}::test_create_list_inspect_remove", "docker volume inspect"),
    "PUT /volumes/{name}": ("tests/api/test_http_volumes.py::test_cluster_volumes_are_for_swarms",),
    "DELETE /volumes/{name}": (f"{_VOLUMES}::test_create_list_inspect_remove", "docker volume rm"),
    "POST /volumes/prune": (f"{_VOLUMES}::test_prune",),
    "POST /auth": ("tests/api/test_http_system.py::test_good",),
    "GET /info": (f"{_PY}::test_ping_version_info", "tests/system/test_side_by_side.py::test_info_has_the_same_keys"),
    "GET /version": ("tests/system/test_side_by_side.py::test_version_has_the_same_keys",),
    "GET /_ping": (f"{_PY}::test_ping_version_info",),
    "HEAD /_ping": ("tests/api/test_http_basics.py::test_head",),
    "GET /events": (f"{_RUN}::test_events_tell_the_story", f"{_PY}::test_events", _LISTS),
    "GET /system/df": (f"{_VOLUMES}::test_events_and_disk_usage",),
    "POST /commit": (f"{_FILES}::test_diff_and_commit", "docker commit"),
    "GET /images/json": (f"{_PY}::test_images", _LISTS, "docker images"),
    "POST /images/create": ("tests/system/test_registry.py::test_formats", "docker import"),
    "GET /images/{name}/json": (f"{_PY}::test_images", "docker inspect --type image"),
    "GET /images/{name}/history": ("docker history",),
    "POST /images/{name}/tag": ("docker tag",),
    "POST /images/{name}/push": ("tests/system/test_push.py::test_what_was_pushed_is_pulled_again",),
    "DELETE /images/{name}": ("docker rmi",),
    "POST /images/prune": ("tests/system/test_pyd_cli.py::test_prune",),
    "POST /images/load": ("tests/system/test_pyd_cli.py::test_images_saved_loaded_tagged_imported", "docker load"),
    "GET /images/{name}/get": ("tests/system/test_pyd_cli.py::test_images_saved_loaded_tagged_imported",),
    "GET /images/get": ("tests/system/test_pyd_cli.py::test_images_saved_loaded_tagged_imported",),
    "GET /distribution/{name}/json": ("tests/system/test_push.py::test_what_a_registry_has",),
    "GET /networks": (f"{_PY}::test_networks", _LISTS, "docker network ls"),
    "GET /networks/{id}": (f"{_PY}::test_networks",),
    "DELETE /networks/{id}": ("docker network rm",),
    "POST /networks/create": ("docker network create", "tests/system/test_networks.py::test_networks_that_cannot_be"),
    "POST /networks/{id}/connect": (
        f"{_NAMES}::test_connect_and_disconnect_a_running_container",
        "docker network connect",
    ),
    "POST /networks/{id}/disconnect": (
        f"{_NAMES}::test_connect_and_disconnect_a_running_container",
        "docker network disconnect",
    ),
    "POST /networks/prune": ("docker network prune", "tests/system/test_networks.py::test_events"),
}
"""Operation to its proofs."""

_KERNEL = "tests/system/test_create_fields.py"

FIELDS: dict[str, str] = {
    # --- Config
    "hostname": r"--hostname",
    "domainname": r"--domainname",
    "user": r" -u \d",
    "attach_stdin": r"run .* -i ",
    "attach_stdout": r"-a stdout",
    "attach_stderr": r"-a stderr",
    "exposed_ports": r"ps -a --filter expose",
    "tty": r"run .* -t ",
    "open_stdin": r"run .* -i ",
    "stdin_once": f"{_RUN}::test_stdin_goes_through_whole",
    "env": r" -e A=1",
    "cmd": r"run --rm --network none busybox true",
    "healthcheck": r"--health-cmd",
    "image": r"create --name",
    "volumes": r" -v /anon ",
    "working_dir": r" -w /made",
    "entrypoint": r"--entrypoint",
    "network_disabled": f"{_KERNEL}::test_a_disabled_network_is_loopback_alone",
    "mac_address": r"--mac-address 02",
    "on_build": f"{_KERNEL}::test_what_builds_on_an_image_is_kept_by_it",
    "labels": r"--label a=b",
    "stop_signal": r"--stop-signal SIGUSR1",
    "stop_timeout": r"--stop-timeout",
    "shell": f"{_KERNEL}::test_the_shell_runs_health_checks_and_is_kept",
    # --- HostConfig
    "binds": r" -v \{here\}/bind:/b ",
    "container_id_file": r"--cidfile",
    "log_config": "tests/system/test_log_drivers.py::test_json_file_is_the_default_and_its_file_is_dockers",
    "network_mode": r"--network none",
    "port_bindings": "tests/system/test_ports.py::test_a_server_is_reached_and_gone_with_its_container",
    "publish_all_ports": "tests/system/test_ports.py::test_a_port_of_the_kernels_choice",
    "restart_policy": r"update --restart on-failure:3",
    "auto_remove": r"run --rm",
    "volume_driver": r"volume-driver=local",
    "volumes_from": r"--volumes-from vv",
    "console_size": f"{_RUN}::test_a_shell_on_a_terminal",
    "annotations": f"{_KERNEL}::test_annotations_reach_the_runtime",
    "cap_add": r"--cap-add net_admin",
    "cap_drop": r"--cap-drop all",
    "cgroupns_mode": r"--cgroupns nope",
    "dns": "tests/system/test_inside.py::test_names_and_resolver",
    "dns_options": f"{_KERNEL}::test_the_resolver_has_the_options_asked_for",
    "dns_search": "tests/system/test_inside.py::test_names_and_resolver",
    "extra_hosts": r"--add-host a.b",
    "device_requests": "tests/system/test_cdi.py::test_a_device_with_all_it_brings",
    "links": "tests/system/test_links.py::test_hosts_and_variables",
    "group_add": r"--group-add 777",
    "ipc_mode": r"--ipc none",
    "oom_score_adj": r"--oom-score-adj 500",
    "pid_mode": r"--pid host",
    "privileged": "tests/system/test_inside.py::test_capabilities_as_asked",
    "readonly_rootfs": r"--read-only",
    "security_opt": r"--security-opt no-new-privileges",
    "storage_opt": f"{_FILES}::test_diff_and_commit",
    "tmpfs": r"--tmpfs /tmp",
    "uts_mode": r"--uts host",
    "userns_mode": "tests/system/test_userns.py::test_opting_out",
    "shm_size": r"--shm-size 1m",
    "sysctls": r"--sysctl net",
    "runtime": "tests/system/test_runtimes.py::test_the_life_of_a_container",
    "isolation": r"--isolation ",
    "cpu_shares": r"--cpu-shares 512",
    "memory": r" -m 64m",
    "nano_cpus": r"--cpus 0.5",
    "cgroup_parent": f"{_KERNEL}::test_the_group_is_below_the_parent_that_was_asked_for",
    "blkio_weight": f"{_KERNEL}::test_weights_of_block_devices",
    "blkio_weight_device": f"{_KERNEL}::test_weights_of_block_devices",
    "blkio_device_read_bps": f"{_KERNEL}::test_throttles_of_block_devices",
    "blkio_device_write_bps": f"{_KERNEL}::test_throttles_of_block_devices",
    "blkio_device_read_iops": f"{_KERNEL}::test_throttles_of_block_devices",
    "blkio_device_write_iops": f"{_KERNEL}::test_throttles_of_block_devices",
    "cpu_realtime_period": f"{_RESOURCES}::test_real_time",
    "cpu_realtime_runtime": f"{_RESOURCES}::test_real_time",
    "cpu_period": r"--cpu-period 50000",
    "cpu_quota": r"--cpu-quota 25000",
    "cpuset_cpus": r"--cpuset-cpus 0",
    "cpuset_mems": r"--cpuset-mems",
    "devices": r"--device /dev/null",
    "device_cgroup_rules": r"--device-cgroup-rule",
    "memory_reservation": r"--memory-reservation 32m",
    "memory_swap": r"--memory-swap -1",
    "memory_swappiness": r"--memory-swappiness 10",
    "oom_kill_disable": r"--oom-kill-disable",
    "pids_limit": r"--pids-limit 5 ",
    "ulimits": r"--ulimit nofile",
    "mounts": r"--mount type=volume",
    "masked_paths": "tests/system/test_inside.py::test_masked_and_read_only_paths",
    "readonly_paths": "tests/system/test_inside.py::test_masked_and_read_only_paths",
    "init": r"--init busybox",
}
"""Field of Config and HostConfig to its proof."""
