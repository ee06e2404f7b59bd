"""Where else attacks are tried: classes that a row of one request and one judge can't hold, and what tries them.

A class that nothing tries stands in `attacks.UNSHOWN` or `attacks.OPEN`, with the reason.
"""

from __future__ import annotations

ELSEWHERE: dict[str, list[str]] = {
    "a folder of one's own makes root: setuid files, an image's setuid shell, an exec as root": [
        "integration/test_binds.py::test_root_leaves_what_is_its_users",
        "integration/test_binds.py::test_devices_are_not_made",
        "integration/test_binds.py::test_ownership_of_those_who_change_user_at_their_start",
    ],
    "the same by archives that the daemon unpacks: owners, modes, capabilities, links out, the container's own links": [
        "integration/test_archives_hostile.py::test_no_archive_leads_to_the_hosts_files",
        "integration/test_archives_hostile.py::test_devices_of_an_image_are_shut_and_stay_in_it",
        "integration/test_binds.py::test_what_an_archive_makes_in_a_bind_is_its_owners",
    ],
    "a path that is swapped after its check: before the start, at a restart, in a loop, without any call": [
        "integration/test_binds.py::test_what_is_swapped_after_the_check_is_checked_again_at_the_start",
        "integration/test_binds.py::test_no_swap_of_the_source_wins",
        "integration/test_binds_life.py::test_a_daemon_that_is_killed_starts_them_again",
        "integration/test_binds_life.py::test_what_is_no_longer_allowed_is_not_made_again",
    ],
    "a user by name, whose image says who that is": [
        "integration/test_binds_users.py::test_a_user_by_name_is_the_caller",
        "helpers/test_imageusers.py::test_numbers",
    ],
    "the daemon's socket in a container": [
        "integration/test_binds.py::test_the_daemons_socket_is_the_users_own_in_a_container",
        "integration/test_container_callers.py::test_a_mapped_or_host_user_namespace_makes_nobody_another",
    ],
    "logs that fill the disk": ["helpers/test_rules_shares.py::test_logs_rotate"],
    "many small ones in the place of one that is too large: memory, pids, cpus, networks, volumes, ports, disk": [
        "integration/test_totals.py::test_memory",
        "integration/test_totals.py::test_pids",
        "integration/test_totals.py::test_steps_of_builds",
        "integration/test_shares.py::test_number_of_containers",
        "integration/test_disk_totals.py::test_disk",
        "helpers/test_naming.py::test_totals",
    ],
    "JSON that Go reads otherwise, at a real daemon and by a reader that stands for it": [
        "threats/test_gojson.py::test_read_as_the_daemon_reads",
        "property/test_go_reads.py::test_what_is_kept_is_what_go_reads",
    ],
    "lengths, chunks, heads and methods that two readers take for two": [
        "integration/test_http_wire.py::test_malformed_heads",
        "integration/test_http_wire.py::test_methods_the_api_does_not_have",
        "integration/test_http_bodies.py::test_malformed_chunks_of_json",
        "integration/test_http_bodies.py::test_malformed_chunks_of_an_upload",
        "integration/test_http_bodies.py::test_queries",
        "property/test_http_mutated.py::test_h11_alone_reads_the_same",
    ],
    "spoofing on a bridge that is shared": ["integration/test_own_bridge.py::test_others_are_out_of_reach"],
    "names of images that look like IDs, pushes of others', names that change hands meanwhile": [
        "integration/test_tags.py::test_names_that_look_like_ids_are_not_set",
        "integration/test_names_in_time.py::test_a_name_stays_what_it_is_until_the_daemon_has_looked",
        "integration/test_names_in_time.py::test_what_another_has_pulled_is_not_ones_to_push",
    ],
    "caches of builds, shared mounts, sessions and builds of others, a frontend that asks for anything": [
        "integration/test_builds.py::test_a_cache_of_ones_own",
        "integration/test_buildkit.py::test_cache_mounts_and_steps_are_apart",
        "integration/test_buildkit_hostile.py::test_nobody_calls_anothers_client",
        "integration/test_buildkit_hostile.py::test_nobody_follows_anothers_build",
        "integration/test_buildkit_hostile.py::test_only_listed_frontends",
    ],
    "archives that name another's image in ways that hide it": [
        "integration/test_loads.py::test_no_archive_moves_what_is_not_ones_own"
    ],
    "labels that come with an image": [
        "integration/test_ownership_labels.py::test_a_container_does_not_inherit_its_images_owner",
        "integration/test_container_callers.py::test_a_label_of_the_image_makes_no_owner",
    ],
    "a uid that has come to be another person's": [
        "helpers/test_worker.py::test_a_bind_ends_with_its_owners_account",
        "integration/test_lost_access.py::test_a_uid_that_another_account_has_now",
    ],
    "an image of another's by its digest, from a registry that only claims to have it": [
        "integration/test_digests.py::test_a_pull_brings_nothing_of_anothers",
        "integration/test_digests.py::test_no_build_is_from_anothers_manifest",
        "integration/test_digests.py::test_a_frontend_says_nothing_of_anothers_config",
    ],
    "what keeps others from being served: connections, heads, bodies, streams, bombs": [
        "integration/test_traffic.py::test_a_flood_of_requests_slows_its_sender_alone",
        "integration/test_http_patience.py::test_a_slow_reader_holds_nobody",
        "integration/test_buildkit_hostile.py::test_floods_and_bombs_hurt_their_own_connection_only",
        "integration/test_traffic.py::test_what_the_daemon_is_not_done_with_counts",
        "helpers/test_withheld.py::test_others_do_not_wait_while_a_name_is_taken_away",
        "helpers/test_costs.py::test_cost",
    ],
    "the record: odd names, secrets, gaps, a disk that is full": [
        "unit/test_review.py::test_nobodys_words_reach_the_terminal",
        "integration/test_cli_records.py::test_no_secret_is_on_the_record",
        "integration/test_record_crash.py::test_killed_at_any_time_no_effect_is_without_its_intent",
        "integration/test_no_record.py::test_no_record_no_call",
    ],
    "ways around: the daemon's group, TCP, other sockets": [
        "integration/test_doctor_engine.py::test_ways_around_are_found"
    ],
    "a front that is broken into": [
        "root/test_hostile_front.py::test_descriptor_that_is_no_users_connection",
        "root/test_hostile_front.py::test_role_of_a_live_user_cannot_be_exceeded",
    ],
}
