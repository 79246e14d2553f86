"""Assignments: release them to students, grade what comes back in a sandbox, write feedback.

python -m course.grading release  assignments/1_noise_editing release/
python -m course.grading grade    assignments/1_noise_editing submitted/ graded/
python -m course.grading feedback graded/
"""
