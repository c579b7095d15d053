use super::*;
use std::collections::BTreeSet;

fn questions(task: &'static Built, split: Split, seed: u64) -> BTreeSet<String> {
    let part = task.open(split, seed);
    let question = |c: &Conversation| c.messages[0].text();
    part.conversations.iter().map(question).collect()
}

/// By the text of questions, also across seeds; and no question comes twice.
#[test]
fn parts_are_disjoint_and_full() {
    for task in &ALL {
        let train = questions(task, Split::Train, 42);
        let test = questions(task, Split::Test, 42);
        assert_eq!((train.len(), test.len()), (TRAIN, TEST), "{}", task.name);
        let other = questions(task, Split::Test, 7);
        assert_ne!(test, other, "{}", task.name);
        assert!(train.is_disjoint(&test) && train.is_disjoint(&other), "{}", task.name);
    }
}

/// What is in a word, a sum or a story of one part is in none of the other, whatever is asked of it.
#[test]
fn what_is_asked_about_is_of_one_part() {
    for task in &ALL {
        let mut random = PythonRandom::new(3);
        let (mut train, mut test) = (BTreeSet::new(), BTreeSet::new());
        for _ in 0..5000 {
            let about = (task.draw)(&mut random).about;
            match split_of(&about) {
                Split::Train => train.insert(about),
                Split::Test => test.insert(about),
            };
        }
        assert!(train.is_disjoint(&test));
        let share = test.len() as f64 / (train.len() + test.len()) as f64;
        assert!((0.1..0.15).contains(&share), "{}: {share}", task.name);
    }
}

#[test]
fn a_seed_is_a_list() {
    for task in &ALL {
        let [one, same] = [0, 1].map(|_| task.open(Split::Test, 5));
        assert_eq!(one.conversations, same.conversations);
        assert_eq!(one.identity(), same.identity());
    }
}

/// Right answers earn 1, answers to other questions 0 (or they are the same).
#[test]
fn right_answers_are_right() {
    for task in &ALL {
        let part = task.open(Split::Test, 42);
        let answer = |i: usize| part.conversations[i].messages[1].text();
        for i in 0..part.len() {
            assert_eq!(part.reward(i, &answer(i)).unwrap(), 1.0, "{}", task.name);
            assert_eq!(part.reward(i, "").unwrap(), 0.0);
            let other = answer((i + 1) % part.len());
            let same = match task.rule {
                Rule::Number => final_number(&other) == final_number(&answer(i)),
                Rule::Text | Rule::Letter => other == answer(i),
            };
            assert_eq!(part.reward(i, &other).unwrap() == 1.0, same, "{}: {i}", task.name);
        }
    }
}

/// Answers are computed a second time, from the text of the question alone.
#[test]
fn answers_follow_from_questions() {
    let all = |task: &'static Built| task.open(Split::Test, 42).conversations;
    for c in all(&spelling::TASK) {
        let word = c.messages[0].text().replace("Spell ", "").replace('.', "");
        assert_eq!(c.messages[1].text().replace(' ', ""), word);
        assert_eq!(c.messages[1].text().len(), 2 * word.len() - 1);
        assert!((4..=15).contains(&word.len()), "{word}");
    }
    for c in all(&counting::TASK) {
        let question = c.messages[0].text();
        let letter = question.chars().nth(9).unwrap();
        let word = question.split('\'').nth(1).unwrap();
        let count = word.matches(letter).count();
        assert!(c.messages[1].text().ends_with(&format!("#### {count}")), "{question}");
    }
    for c in all(&stories::TASK) {
        assert!(stories::says(&c.messages[0].text(), &c.messages[1].text()));
    }
    for c in all(&choice::TASK) {
        let question = c.messages[0].text();
        let letter = c.messages[1].text();
        let story = question.lines().next().unwrap();
        let options: Vec<_> = question.lines().skip(1).filter_map(|l| l.split_once(". ")).collect();
        assert_eq!(options.iter().map(|o| o.0).collect::<Vec<_>>(), LETTERS, "{question}");
        for (of, option) in options {
            assert_eq!(stories::says(story, option), of == letter, "{question}");
        }
    }
}

/// The longest question with its answer, in characters: small models read few tokens.
#[test]
fn conversations_are_short() {
    for (task, most) in ALL.iter().zip([50, 100, 40, 110, 200, 350]) {
        let part = task.open(Split::Test, 42);
        let length = |c: &Conversation| c.messages.iter().map(|m| m.text().len()).sum();
        let longest: usize = part.conversations.iter().map(length).max().unwrap();
        assert!(longest <= most, "{}: {longest}", task.name);
    }
}
