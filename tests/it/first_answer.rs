//! The first thing a newcomer does: ask, with no key, about real files.

use majordomo_tests::app::Setup;
use shared::task::TaskState;

#[tokio::test(flavor = "multi_thread")]
async fn different_questions_get_different_sourced_answers() {
    let app = Setup::built_in()
        .material("handbook.md", "# Handbook\n\nThe office opens at nine o'clock on weekdays.\n\nLunch is served in the canteen at noon. Guests pay six euros.\n")
        .material("infra/backup.md", "# Backups\n\nBackups of the database run every night at two and are kept for thirty days.\n")
        .start()
        .await;
    let first = app.ask("When does the office open?").await;
    let second = app.ask("How long are backups of the database kept?").await;
    assert_eq!(
        (first.state, second.state),
        (TaskState::Done, TaskState::Done)
    );
    let (first, second) = (first.answer.unwrap(), second.answer.unwrap());
    assert!(
        first.contains("nine o'clock") && first.contains("handbook.md:3"),
        "{first}"
    );
    assert!(
        second.contains("thirty days") && second.contains("infra/backup.md:3"),
        "{second}"
    );
    app.stop().await;
}
